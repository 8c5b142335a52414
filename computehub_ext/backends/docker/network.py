"""The network of a place whose kernels may reach what its settings list: a bridge of its own, and rules for it.

The engine has the bridge, this machine's firewall the rules. Both are looked at before each start and with each look at
the place's health, and put right. While they can't be, nothing starts, and what runs is off the network.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import BackendError, SkipPlace, Unreachable

from .engine import Engine
from .firewall import Firewall
from .network_rules import NOBODY, PREFIX, RULES, policy_of, rules_for
from .settings import DockerSettings

log = logging.getLogger(__name__)

OWNER_LABEL = "computehub.owner"
_SEEN_SECONDS = 5.0


def name_for(owner: str) -> str:
    return f"computehub-{owner[:8]}"


def host_options(settings: DockerSettings, owner: str) -> dict[str, Any]:
    """Return what a container's configuration says of its network."""
    if settings.network != RULES:
        return {"NetworkMode": settings.network}
    options = {"NetworkMode": name_for(owner), "DnsSearch": ["."]}
    if settings.network_dns:
        return {**options, "Dns": list(settings.network_dns)}
    # The engine answers for names itself and would ask on in the machine's name, past the rules. What it can't tell it
    # leaves without an answer, which a cell need not wait for.
    return {**options, "Dns": [NOBODY], "DnsOptions": ["timeout:1", "attempts:1"]}


class PlaceNetwork:
    """Does nothing for a place whose ``network`` is not ``rules``.

    Parameters
    ----------
    engine:
        Where the bridge is made.
    settings:
        The place's.
    owner:
        What tells this place's bridge and chains from another's.
    state_dir:
        Where control planes that come and go at the same time wait for each other.
    """

    def __init__(self, engine: Engine, settings: DockerSettings, owner: str, state_dir: Path) -> None:
        self._engine, self._owner = engine, owner
        self._is_wanted = settings.network == RULES
        self.name, self.bridge, self.chain = name_for(owner), f"ch-{owner[:8]}", f"{PREFIX}{owner[:8]}"
        policy = policy_of(settings.network_allow, settings.network_deny, settings.network_dns)
        self.firewall = Firewall(rules_for(policy, self.bridge, self.chain))
        self._lock_file = state_dir / "network.lock"
        self._lock = threading.Lock()
        self._right_at = 0.0
        self._was_right = False
        self._cut: set[str] = set()
        """The containers that were taken off the network."""

    def ensure(self, seen_seconds: float = 0.0) -> None:
        """See to it that the bridge is there and its rules are in force.

        Parameters
        ----------
        seen_seconds:
            How old the last look may be. Nothing is started by an old one.

        Raises
        ------
        SkipPlace
            They are not and can't be, with what would be right. Nothing may be started then.
        """
        if not self._is_wanted or (self._right_at and time.monotonic() - self._right_at < seen_seconds):
            return
        with self._alone():
            try:
                self._ensure_bridge()
                self.firewall.check_bridge(self.bridge)
                if not self.firewall.put_right() and self._was_right:
                    log.warning("The network rules of %s were gone, and are in force again.", self.name)
            except Unreachable:
                raise
            except BackendError:
                self._right_at = 0.0
                self._cut_off()
                raise
            self._right_at, self._was_right = time.monotonic(), True
            self._connect_again()

    def look_after(self) -> None:
        """The same for a place where somebody looks often."""
        self.ensure(_SEEN_SECONDS)

    def close(self) -> None:
        """Remove bridge and rules if no container is there that needs them, now or when it is started."""
        if not self._is_wanted:
            return
        try:
            with self._alone():
                if not self._engine.list(f"{OWNER_LABEL}={self._owner}") and self._engine.remove_network(self.name):
                    self.firewall.clear()
                self._right_at, self._was_right = 0.0, False
        except (BackendError, OSError) as problem:
            log.info("The network %s or its rules are left behind: %s", self.name, problem)

    def _ensure_bridge(self) -> None:
        options = {
            "com.docker.network.bridge.name": self.bridge,
            "com.docker.network.bridge.enable_icc": "false",
        }
        found = self._engine.network(self.name) or self._engine.make_network(
            self.name, options, {OWNER_LABEL: self._owner}
        )
        if (
            found["Driver"] != "bridge"
            or found["EnableIPv6"]
            or not options.items() <= (found["Options"] or {}).items()
        ):
            raise SkipPlace(
                f"The engine has a network {self.name} that is not as ComputeHub makes it: "
                f"`docker network rm {self.name}` and it is made anew."
            )

    def _cut_off(self) -> None:
        """What runs goes on without a network: its messages don't need one."""
        try:
            for container_id in (self._engine.network(self.name) or {}).get("Containers") or {}:
                log.warning("The container %s is taken off the network, which has no rules.", container_id[:12])
                self._engine.disconnect(self.name, container_id)
                self._cut.add(container_id)
        except BackendError as problem:
            log.warning("Containers may be on the network %s, which has no rules: %s", self.name, problem)

    def _connect_again(self) -> None:
        while self._cut:
            container_id = self._cut.pop()
            try:
                self._engine.connect(self.name, container_id)
            except BackendError as problem:
                log.warning("The container %s stays without its network: %s", container_id[:12], problem)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
