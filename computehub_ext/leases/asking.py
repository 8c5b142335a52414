"""How places are asked, so that one that is away or broken costs the leases elsewhere nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from computehub_ext.backends.capabilities import Limits
from computehub_ext.backends.model import Backend, Health, KernelLimits
from computehub_ext.core.clock import Clock
from computehub_ext.core.errors import BackendError, ComputeHubError, Unreachable

log = logging.getLogger(__name__)

DOWN = timedelta(seconds=10)
"""How long a place that did not answer is left alone: waiting for it again and again would keep the others waiting."""
HEALTH_EVERY = timedelta(seconds=30)
SOON = timedelta(seconds=3)
"""How often a place is asked that says that its answer changes (``Health.soon``)."""
TRACEBACK_EVERY = timedelta(minutes=10)
"""A backend that breaks does so at every beat; its traceback is written this often."""

T = TypeVar("T")


class Broken(BackendError):
    """A backend raised what it does not promise. For the caller it is one more place that can't tell."""


class Places:
    """The backends by name, as pools name them, and how they were when they were last asked."""

    def __init__(self, backends: Mapping[str, Backend], clock: Clock) -> None:
        self.backends = backends
        self._clock = clock
        self._down_until: dict[str, datetime] = {}
        self._health: dict[str, Health] = {}
        self._healthy_at: datetime | None = None
        self._soon_at: datetime | None = None
        self._broken_at: dict[str, datetime] = {}
        self._told_at: dict[str, datetime] = {}

    def ask(self, name: str, act: Callable[[Backend], T]) -> T:
        """Ask a place for somebody; one that did not answer a moment ago, or is configured no more, is ``Unreachable``
        at once, and what a backend must not raise is ``Broken``."""
        now = self._clock.now()
        if name not in self.backends:
            raise Unreachable(f"No place {name} is configured any more; what runs there can't be reached.", place=name)
        if now < self._down_until.get(name, now):
            known = self._health.get(name)
            said = f"The place {name} did not answer a moment ago."
            raise Unreachable(said if known is None or known.ok else known.message, place=name)
        try:
            return act(self.backends[name])
        except Unreachable as error:
            self._down_until[name] = now + DOWN
            self._health[name] = Health(False, error.message)
            raise
        except ComputeHubError:
            raise
        except Exception as error:
            self._tell(name, now)
            raise Broken(
                f"The place {name} failed unexpectedly; the server's log has the cause.", place=name
            ) from error

    def watch(self, name: str, act: Callable[[Backend], T]) -> T:
        """Ask what is asked of itself, whoever uses the place: one that breaks then is unwell, and nothing is started
        there for a while. What a person asks for does not count, so that nobody's odd wish closes a place for all."""
        try:
            return self.ask(name, act)
        except Broken:
            self._broken_at[name] = self._clock.now()
            raise

    def _tell(self, name: str, now: datetime) -> None:
        told_at = self._told_at.get(name)
        if told_at is None or now - told_at >= TRACEBACK_EVERY:
            self._told_at[name] = now
            log.exception("the place %s raised what no backend should", name)

    def unwell(self) -> dict[str, str]:
        """The places where a start would fail, by name, and why; as of a moment ago."""
        found = {name: health.message for name, health in dict(self._health).items() if not health.ok}
        now = self._clock.now()
        for name, at in dict(self._broken_at).items():
            if now - at <= HEALTH_EVERY:
                found.setdefault(name, "Something is wrong with this place; its administrator finds it in the log.")
        return found

    def check_health(self, now: datetime) -> None:
        is_time = self._healthy_at is None or now - self._healthy_at >= HEALTH_EVERY
        is_soon = self._soon_at is None or now - self._soon_at >= SOON
        if is_time:
            self._healthy_at = now
        if is_time or is_soon:
            self._soon_at = now
        for name in self.backends:
            known = self._health.get(name)
            if not is_time and not (is_soon and known is not None and known.soon):
                continue
            try:
                self._health[name] = self.watch(name, lambda backend: backend.health())
            except BackendError as error:
                self._health[name] = Health(False, error.message)

    def limits(self, name: str) -> KernelLimits:
        """What one kernel may use there."""
        backend = self.backends.get(name)
        try:
            return backend.limits() if isinstance(backend, Limits) else KernelLimits()
        except Exception:
            self._tell(name, self._clock.now())
            return KernelLimits()
