"""Getting a place's image from its registry, in the background, before anybody waits for a kernel.

Nobody is billed meanwhile: a start is refused with how far it is, and offers show the same sentence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from computehub_ext.core.errors import BackendError, NoCapacity, Refused

from .engine import Image

log = logging.getLogger(__name__)

WAITS_SECONDS = (10.0, 30.0, 60.0, 300.0, 600.0)
"""Between one try and the next; after the last it is given up."""
_DONE = ("Pull complete", "Already exists")
_KNOWN = (*_DONE, "Download complete", "Verifying Checksum", "Extracting")
_MB = 1_000_000


class PullingEngine(Protocol):
    """What is asked of an engine."""

    def image(self, name: str) -> Image: ...
    def pull(self, name: str) -> Iterator[Mapping[str, Any]]: ...


@dataclass
class _Layer:
    total: int = 0
    there: int = 0
    unpacked: int = 0
    is_known: bool = False


class Progress:
    """How far a pull is, from what the engine says of each layer. Layers that were there before count nothing."""

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}
        self.error = ""

    def note(self, line: Mapping[str, Any]) -> None:
        """Take in one line of what the engine says."""
        if error := line.get("error"):
            self.error = str(error)
        status, detail = line.get("status", ""), line.get("progressDetail") or {}
        current, total = detail.get("current"), detail.get("total")
        if not line.get("id") or not (status in _KNOWN or status in ("Pulling fs layer", "Waiting", "Downloading")):
            return
        layer = self._layers.setdefault(line["id"], _Layer())
        if total and status in ("Downloading", "Extracting"):
            layer.total, layer.is_known = total, True
        if status == "Downloading":
            layer.there = current or 0
        elif status in _KNOWN:
            layer.is_known, layer.there = True, layer.total
        if status == "Extracting":
            layer.unpacked = current or 0
        elif status in _DONE:
            layer.unpacked = layer.total

    def __str__(self) -> str:
        """Say it; empty while nothing is known."""
        layers = list(self._layers.values())
        total, there = sum(each.total for each in layers), sum(each.there for each in layers)
        if not total:
            return ""
        if any(not each.is_known for each in layers):  # the engine says a layer's size when it begins with it
            known = sum(each.is_known and each.there == each.total for each in layers)
            return f"{sizes(there)} so far, {known} of {len(layers)} layers"
        if there < total:
            return f"{100 * there // total} %, {sizes(there, total)}"
        return f"all {sizes(total)} are there, {100 * sum(each.unpacked for each in layers) // total} % unpacked"


class Puller:
    """Answers for one place's image: as the engine has it, else by getting it, where the settings say so.

    Parameters
    ----------
    engine:
        Asked for the image, and to pull it. It finds registries' logins where its own command would.
    name:
        The image that is pulled; others are only looked for.
    is_wanted:
        Whether it is pulled at all.
    """

    def __init__(self, engine: PullingEngine, name: str, *, is_wanted: bool) -> None:
        self._engine, self._name, self._is_wanted = engine, name, is_wanted
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._progress = Progress()
        self._failed, self._again_at, self._is_given_up = "", 0.0, False
        self._closed = threading.Event()

    def image(self, name: str) -> Image:
        """Return the image if the engine has it.

        Raises
        ------
        NoCapacity
            It is being pulled, which this call may have begun; the message says how far that is.
        Refused
            The engine doesn't have it, and it is not pulled, or can't be.
        """
        try:
            found = self._engine.image(name)
        except Refused as problem:
            if name != self._name or not self._is_wanted or problem.details.get("kind") != "image":
                raise
            self._begin()
            if self._is_given_up:
                raise Refused(self.said(), kind="image", image=name) from problem
            raise NoCapacity(self.said(), kind="image", image=name) from problem
        if name == self._name:
            self._is_given_up = False  # it came in another way; if it goes again, it is pulled again
        return found

    def said(self) -> str:
        """Return how far it is, as a sentence."""
        if self._failed:
            left = max(0.0, self._again_at - time.monotonic())
            again = "It is not tried again by itself." if self._is_given_up else f"It is tried again in {left:.0f} s."
            return f"{self._failed} {again}"
        how_far = str(self._progress)
        return f"The image {self._name} is being pulled{': ' if how_far else ''}{how_far}."

    def close(self) -> None:
        """Pull no more. What the engine has of it already is there for the next time."""
        self._closed.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout=2)  # it waits for the engine's next word, which may take long, and holds nothing up

    def _begin(self) -> None:
        with self._lock:
            if self._thread is not None or self._is_given_up or self._closed.is_set():
                return
            self._progress, self._failed = Progress(), ""
            self._thread = threading.Thread(target=self._run, name=f"computehub-pull-{self._name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            for wait in (*WAITS_SECONDS, None):
                said = self._pull()
                if not said or self._closed.is_set():
                    return
                failed, may_pass = told(self._name, said)
                log.warning("%s The engine said: %s", failed, said)
                self._is_given_up = wait is None or not may_pass
                self._again_at = time.monotonic() + (wait or 0)
                self._failed = failed  # last, since it is what ``said`` begins with
                if self._is_given_up or self._closed.wait(wait):
                    return
        finally:
            with self._lock:
                self._thread = None

    def _pull(self) -> str:
        """Try once; return what the engine said if it failed."""
        self._progress, self._failed = Progress(), ""
        log.info("The image %s is being pulled.", self._name)
        try:
            for line in self._engine.pull(self._name):
                self._progress.note(line)
                if self._closed.is_set():
                    return ""  # the engine ends it with the connection
        except BackendError as problem:
            return problem.message
        if not self._progress.error:
            log.info("The image %s is there.", self._name)
        return self._progress.error


def told(name: str, said: str) -> tuple[str, bool]:
    """Return a sentence for why a pull failed, and whether another try may go better."""
    lower = said.lower()
    if "manifest unknown" in lower or "name unknown" in lower or "not found" in lower or "invalid reference" in lower:
        return f"There is no image {name} at its registry.", False
    if any(part in lower for part in ("denied", "unauthorized", "no basic auth", "authentication required")):
        registry = f" {name.split('/')[0]}" if "/" in name and any(c in name.split("/")[0] for c in ".:") else ""
        login = f"`docker login{registry}` as the account that ComputeHub runs as"
        return f"Its registry does not give the image {name} to us, or has none of that name: {login} may help.", False
    if "no space left" in lower:
        return f"The engine's disk is too full for the image {name}.", True
    if "toomanyrequests" in lower or "rate limit" in lower:
        return f"The registry of {name} gives no more images for now: too many were asked for.", True
    if any(part in lower for part in _UNREACHABLE):
        return f"The registry of {name} can't be reached from the engine.", True
    return f"The image {name} could not be pulled: {said.strip().rstrip('.')}.", True


_UNREACHABLE = (
    "connection refused",
    "no such host",
    "i/o timeout",
    "timeout exceeded",
    "deadline exceeded",
    "network is unreachable",
    "no route to host",
    "connection reset",
    "unexpected eof",
    "server misbehaving",
    "proxyconnect",
)


def sizes(there: int, of: int = 0) -> str:
    """Return a number of bytes as people read it, or how many there are of how many."""
    unit, per = ("GB", 1000 * _MB) if max(there, of) >= 1000 * _MB else ("MB", _MB)
    digits = 1 if unit == "GB" or max(there, of) < 10 * _MB else 0
    return f"{there / per:.{digits}f}{f' of {of / per:.{digits}f}' if of else ''} {unit}"
