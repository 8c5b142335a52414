"""Whether a notebook's variables fit into the main memory that a kernel may use where it is to move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from computehub_ext.core.actor import Actor
from computehub_ext.kernel.offered import amount, instead
from computehub_ext.kernel.wording import size_in_words
from computehub_ext.kernel.zone import local_zone

KERNEL_MIB = 128
"""What a kernel takes before it holds any variable: Python, IPython and the libraries of a usual notebook."""
MARGIN = 1.25
"""Restoring and the next cells need more than what is there, such as the copy that most operations make."""
WEIGHED_BYTES_MIN = 16 * 2**20
"""Less does not decide it: whether a kernel itself fits is the administrator's affair."""


def needed_mib(total_bytes: int) -> int:
    return math.ceil(total_bytes * MARGIN / 2**20) + KERNEL_MIB


async def problems(
    plane: Any, actor: Actor, target: Mapping[str, Any] | None, total_bytes: int
) -> list[dict[str, Any]]:
    """What to tell of a move to ``target``, a lease or a quote: one problem of kind ``memory``, or none."""
    if target is None or total_bytes < WEIGHED_BYTES_MIN:
        return []
    needed = needed_mib(total_bytes)
    found = await plane.room_for(
        actor, pool=str(target["pool"]), count=int(target.get("count") or 1), memory_mib=needed
    )
    if found is None:
        return []
    message = (
        f"The notebook's variables take {size_in_words(total_bytes)}, and with what a kernel needs beside them that is "
        f"too much for the {amount(int(found['limit_mib']))} of main memory (RAM) that a kernel may use on "
        f"{found['place']}: it would probably be ended there."
    )
    return [{"kind": "memory", "message": message, "fits": found["fits"]}]


def way_on(lease: Mapping[str, Any] | None) -> str:
    """The sentence about where a notebook can go on whose kernel needed more main memory than it had; or nothing."""
    offer = (lease or {}).get("roomier")
    block = instead([offer], local_zone(), "%gpu") if offer else None
    if block is None:
        return ""
    typed, said = block.rows[0]
    return f" `{typed}` has more room: {said}."
