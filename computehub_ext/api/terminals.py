"""What is said over a terminal's websocket: Jupyter's own messages, which JupyterLab's terminal speaks.

Not terminado's handlers: theirs have processes of this machine at the other end. Here it is calls of the control plane,
which may be in another server.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from tornado.websocket import WebSocketClosedError

from computehub_ext.core.actor import Actor
from computehub_ext.core.errors import ComputeHubError, Conflict, NotFound, Unavailable

log = logging.getLogger(__name__)

SIDE_MAX = 1000
"""The most rows or columns that a window has."""
TYPED_CHARACTERS_MAX = 16 * 1024
SHOWN_PER_SECOND = 4 * 1024 * 1024
"""A program that writes without end must not keep the server, or the browser, from everything else."""
SMALL_CHARACTERS = 4096
TRIES_MAX, TRY_AGAIN_SECONDS = 40, 0.05
NOT_ALL_TAKEN = "[Not all of what was pasted was taken: nothing reads it.]"


class Conversation:
    """One browser's connection to one terminal.

    Parameters
    ----------
    socket:
        The handler, after it was upgraded.
    plane:
        The control plane's facade.
    """

    def __init__(self, socket: Any, plane: Any, actor: Actor, lease_id: str, terminal_name: str) -> None:
        self._socket, self._plane, self._actor = socket, plane, actor
        self._lease_id, self._name = lease_id, terminal_name
        self._terminal_id: str | None = None
        self._opened = asyncio.Event()
        self._is_full = False
        self._showing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._showing = asyncio.ensure_future(self._show())

    async def _show(self) -> None:
        try:
            await self._say("setup", {})
            opened = await self._plane.open_terminal(self._actor, lease_id=self._lease_id, name=self._name)
            self._terminal_id = opened["terminal_id"]
            self._opened.set()
            ended = None
            while ended is None:
                shown = await self._plane.terminal_output(self._actor, terminal_id=self._terminal_id)
                text, ended = shown["text"], shown["ended"]
                if text:
                    await self._say("stdout", text)
                if len(text) > SMALL_CHARACTERS:
                    await asyncio.sleep(len(text) / SHOWN_PER_SECOND)
            self._terminal_id = None
            await self._part(ended)
        except WebSocketClosedError:
            pass
        except ComputeHubError as error:
            self._terminal_id = None
            await self._part(error.message)
        except Exception:
            log.exception("A terminal of lease %s failed", self._lease_id)
            await self._part("Something went wrong in the server. Its log has the cause.")

    async def _say(self, *message: Any) -> None:
        # Waits until the connection has taken it, so that nothing piles up for a browser that is slow.
        await self._socket.write_message(json.dumps(message))

    async def _note(self, what: str) -> None:
        """Say something of ours among what the terminal shows."""
        await self._say("stdout", f"\r\n\x1b[2m{what}\x1b[0m\r\n")

    async def _part(self, why: str) -> None:
        """Say why it is over, and that it is; the browser does not try again then."""
        try:
            await self._note(why)
            await self._say("disconnect", 1)
        except WebSocketClosedError:
            pass
        self._socket.close(1000)

    async def heard(self, message: str | bytes) -> None:
        """Type or resize; what is no message of a terminal is passed over."""
        kind, *content = _read(message)
        if kind == "stdin" and len(content) == 1 and isinstance(content[0], str):
            for begin in range(0, len(content[0]), TYPED_CHARACTERS_MAX):
                typed = content[0][begin : begin + TYPED_CHARACTERS_MAX]
                if not await self._typed(typed):
                    await self._say_it_is_full()
                    return
                self._is_full = False
        elif kind == "set_size" and len(content) >= 2 and all(_is_side(side) for side in content[:2]):
            try:
                await self._call("resize_terminal", rows=content[0], columns=content[1])
            except Conflict as error:  # raised from here it would end the connection, and what runs in the terminal
                log.debug("resize_terminal: %s", error)

    async def _typed(self, typed: str) -> bool:
        """Type it, more slowly where it is more than anything there reads; False where nothing does."""
        for _ in range(TRIES_MAX):
            try:
                await self._call("terminal_input", typed=typed)
            except Conflict:
                await asyncio.sleep(TRY_AGAIN_SECONDS)
            else:
                return True
        return False

    async def _say_it_is_full(self) -> None:
        """Once, not for each key that is pressed until something is taken again."""
        if not self._is_full:
            self._is_full = True
            try:
                await self._note(NOT_ALL_TAKEN)
            except WebSocketClosedError:
                pass

    async def _call(self, name: str, **arguments: Any) -> None:
        await self._opened.wait()
        if self._terminal_id is None:
            return
        try:
            await getattr(self._plane, name)(self._actor, terminal_id=self._terminal_id, **arguments)
        except (NotFound, Unavailable) as error:  # it has ended, which is said by who shows it
            log.debug("%s: %s", name, error)

    def close(self) -> None:
        """The connection is gone, and the terminal with it, unless a newer connection has taken it over."""
        if self._showing is not None:
            self._showing.cancel()
        self._opened.set()
        if self._terminal_id is not None:
            self._closing = asyncio.ensure_future(self._call("close_terminal"))


def _read(message: str | bytes) -> list[Any]:
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return [None]
    return found if isinstance(found, list) and found else [None]


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= SIDE_MAX
