"""Where two kernels meet to hand a state over: chosen for each move, by where the two of them are."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import BackendError
from computehub_ext.notebook.places import LeasedPlace, Place

STATE_PORT = "state_port"
"""The detail by which a place that publishes single ports says which one is for the state: ``inside:outside``."""

_SOCKET = re.compile(r"state-[0-9a-f]{16}\.sock")


@dataclass(frozen=True)
class Meeting:
    """A folder of this machine's, or an address of the node's at which the kernel there listens.

    Parameters
    ----------
    folder:
        That only one user, and root, can enter; None over the network.
    host:
        The node's address in numbers; empty in a folder.
    port, published:
        Where the node can be reached on one port alone: that port, as it is there and as it is from here.
    node_offers:
        Whether the state comes from the node rather than goes there.
    """

    folder: str | None
    host: str = ""
    port: int = 0
    published: int = 0
    node_offers: bool = False

    @property
    def listen(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port, "published": self.published}

    def is_at(self, address: str) -> bool:
        """Whether a kernel that says it offers there can be believed: the other one, which may be root, goes there."""
        if self.folder is None:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return re.fullmatch(rf"tcp://{re.escape(host)}:\d{{1,5}}", address) is not None
        folder, name = os.path.split(address)
        return folder == os.path.abspath(self.folder) and _SOCKET.fullmatch(name) is not None


async def meeting_of(source: Place, target: Place, own_folder: Path) -> Meeting:
    """Choose for one move.

    ``own_folder`` is for two kernels of this machine and user, and made if it is not there.
    """
    leased = [place for place in (source, target) if isinstance(place, LeasedPlace)]
    for place in leased:
        if place.meeting_dir is not None:
            return Meeting(place.meeting_dir)
    for place in leased:
        if place.host is not None:
            inside, _, outside = place.details.get(STATE_PORT, "").partition(":")
            ports = (int(inside), int(outside or inside)) if inside else (0, 0)
            return Meeting(None, await _in_numbers(place.host), *ports, node_offers=place is source)
    return Meeting(_made_private(own_folder))


def _made_private(folder: Path) -> str:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    return str(folder)


async def _in_numbers(host: str) -> str:
    """The address as this machine knows it: on the node itself its name may stand for a loopback address."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BackendError(f"The kernel's machine {host} is not known here ({error.strerror}).", host=host) from error
    return str(found[0][4][0])
