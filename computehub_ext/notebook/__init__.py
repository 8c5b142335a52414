"""What only the notebook's own server can do: hold the cells, move the state, change the kernel behind its id.

    places        where a kernel runs: a process here, or a placement of the control plane
    provisioner   Jupyter's way to the place
    kernel        one kernel whose place can change       kernels    all of the server's
    gate          which message may go on and which waits; no I/O
    traffic       one kernel's messages: who listens to it, what waits, what the server says in its name
    wire          Jupyter's messages and sockets
    websocket     the browser's connections               relay      those of consoles and other direct clients
    code          silent code in a kernel                 state      what crosses over: preview, capture, restore
    moves         what a move is asked for and goes through  successor    the kernel to come
    switch        the move, step by step                  switches   all of them, by id and key
    preview       what a move would take along, lose and cost, without moving
    seen          a kernel's place as people see it
    watch         orders of the control plane             survival   leased kernels outlive it (saved: the file)
    handlers      switches and kernels over REST          wiring     into a Jupyter server and out of it

``app`` calls ``link`` when the extension is linked (before the server builds its managers), ``setup`` when it is loaded
and ``stop`` when the server stops.
"""

from __future__ import annotations

from typing import Any


def link(serverapp: Any) -> None:
    from computehub_ext.notebook import wiring

    wiring.link(serverapp)


def setup(serverapp: Any, plane: Any) -> None:
    from computehub_ext.notebook import wiring

    wiring.setup(serverapp, plane)


async def stop(serverapp: Any, *, end_leases: bool) -> None:
    from computehub_ext.notebook import wiring

    await wiring.stop(serverapp, end_leases=end_leases)
