"""Which kernels a place keeps ready, and which of them go. Pure; ``standby_keeper.py`` does what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Group(Generic[K]):
    """Models for which the same kernels stand ready.

    Parameters
    ----------
    models:
        Whose leases take them.
    kinds:
        What can stand there, in the order in which leases come for it. A kind is what a kernel was made for and can't
        be changed any more, such as the GPU of its container; one that is in it twice may stand there twice.
    count:
        The target: no more than that at a time.
    """

    models: frozenset[str]
    kinds: tuple[K, ...]
    count: int

    def wanted(self, leased: Collection[K]) -> tuple[K, ...]:
        """Return what is to stand there while these kinds are somebody's."""
        return tuple(kind for kind in self.kinds if kind not in leased)[: self.count]


@dataclass(frozen=True)
class Change(Generic[K]):
    """What to do now: end those at these positions, and start one of this kind."""

    surplus: tuple[int, ...]
    lacking: K | None


def is_needed(last_at: float, now: float, idle_seconds: float) -> bool:
    """Tell whether a group is kept for which there was a sign of need at ``last_at``; without a limit, always."""
    return not idle_seconds or now - last_at < idle_seconds


def in_turns(groups: Iterable[tuple[K, ...]]) -> tuple[K, ...]:
    """Return the first of each, then the second of each: where not all have room, each model has some."""
    nothing = object()
    return tuple(kind for turn in zip_longest(*groups, fillvalue=nothing) for kind in turn if kind is not nothing)  # type: ignore[misc]


def change(wanted: Sequence[K], there: Sequence[K]) -> Change[K]:
    """Compare what is wanted with what is there, oldest first: of what is too many the newest go."""
    left = Counter(wanted)
    surplus = []
    for position, kind in enumerate(there):
        if left[kind] > 0:
            left[kind] -= 1
        else:
            surplus.append(position)
    return Change(tuple(surplus), next((kind for kind in wanted if left[kind] > 0), None))


def over(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """Return the positions of those that go, so that the others hold no more than ``most`` together."""
    held, gone = 0, []
    for position, size in enumerate(sizes):
        if held + size > most:
            gone.append(position)
        else:
            held += size
    return tuple(gone)


def has_room(sizes: Sequence[int], most: int, seen: int = 0) -> bool:
    """Tell whether one more has room, if it comes to be as large as the largest: ``seen`` is that where none is there.

    The first one ever shows how large they are.
    """
    return sum(sizes) + max(sizes, default=seen) <= most


def failure_wait(failures: int, most: float) -> float:
    """Return how many seconds to wait after so many failures in a row."""
    return min(most, 2.0 ** min(failures, 30))
