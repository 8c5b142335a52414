"""This machine's firewall, as far as a place's rules need it: looked at, put right all at once, cleared.

By the programs that dockerd itself uses, so that its rules and ours are in one table.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from computehub_ext.core.errors import SkipPlace

from .network_rules import PREFIX, Wanted

_SECONDS_MAX = 10.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEVICES, _FILTERED = "/proc/net/dev", "/proc/sys/net/bridge/bridge-nf-call-iptables"
_SIX = "/proc/sys/net/ipv6"
_TARGET = re.compile(r"-j (\S+)")
_NO_RIGHTS = ("permission denied", "must be root", "operation not permitted")
RIGHTS = (
    "This place's network rules are rules of this machine's firewall, which ComputeHub may not set: run it as root or "
    'with the capability CAP_NET_ADMIN, or choose network "none".'
)


class Firewall:
    """The tables of one network namespace, by default that of this process.

    Parameters
    ----------
    wanted:
        What the tables are to hold; those of the second are left out where the machine has no IPv6.
    enter:
        A command that runs others where the engine's network is. Tests have an engine with one of its own.
    """

    def __init__(self, wanted: Sequence[Wanted], enter: Sequence[str] = ()) -> None:
        self._wanted, self.enter = tuple(wanted), tuple(enter)
        self._as_written: dict[str, list[str]] = {}
        """Our chains as the firewall showed them after they were written: it has its own way to put things."""

    def check_bridge(self, bridge: str) -> None:
        """Raises ``SkipPlace`` where the engine's bridge is not on this machine, or what crosses it isn't filtered."""
        # Of a machine that doesn't filter them, the second file is not there.
        lines = self._run("cat", _DEVICES, _FILTERED, check=False).stdout.splitlines()
        if bridge not in (line.partition(":")[0].strip() for line in lines):
            raise SkipPlace(
                "The engine's networks are not where ComputeHub runs: the engine is rootless or in a virtual machine, "
                "or ComputeHub is in a container without --network=host. Their rules can't be kept from here; network "
                '"none" needs none.'
            )
        if lines[-1].strip() != "1":
            raise SkipPlace(
                "This machine does not filter what one container sends to the next: `modprobe br_netfilter` and "
                "`sysctl net.bridge.bridge-nf-call-iptables=1` would be right."
            )

    def put_right(self) -> bool:
        """See to it that all rules are in force; tell whether they were. Raises ``SkipPlace`` if they can't be."""
        were = [self._put_right(wanted) for wanted in self._there()]
        return all(were)

    def clear(self) -> None:
        """Remove all that was ever put in for these chains; fine if there is nothing."""
        for wanted in self._there():
            saved = self._saved(wanted)
            ours = [name for name in wanted.chains if any(line.startswith(f":{name} ") for line in saved)]
            lines = [line for line in saved if line.startswith("-A ") and _target(line) in ours]
            if ours:
                emptied = [f":{name} - [0:0]" for name in ours]
                self._restore(wanted, [*emptied, *_deletions(lines), *(f"-X {name}" for name in ours)])
        self._as_written.clear()

    def _there(self) -> Iterator[Wanted]:
        for wanted in self._wanted:
            if wanted.program == "iptables" or os.path.isdir(_SIX):
                yield wanted

    def _put_right(self, wanted: Wanted) -> bool:
        saved = self._saved(wanted)
        if self._is_right(wanted, saved):
            return True
        self._restore(wanted, _changes(wanted, saved))
        saved = self._saved(wanted)
        shown = _rules_of(saved, wanted.chains)
        if len(shown) != sum(len(rules) for rules in wanted.chains.values()):
            raise SkipPlace("This machine's firewall did not take this place's network rules.")
        self._as_written[wanted.program] = shown
        if not self._is_right(wanted, saved):
            raise SkipPlace("Something else on this machine keeps putting its rules before this place's network rules.")
        return False

    def _is_right(self, wanted: Wanted, saved: Sequence[str]) -> bool:
        as_written = self._as_written.get(wanted.program)
        if as_written is None or _rules_of(saved, wanted.chains) != as_written:
            return False
        return all(set(_lines(chain, jumps)) <= set(_leading(saved, chain)) for chain, jumps in wanted.jumps.items())

    def _saved(self, wanted: Wanted) -> list[str]:
        return self._run(f"{wanted.program}-save", "-t", "filter").stdout.splitlines()

    def _restore(self, wanted: Wanted, changes: Sequence[str]) -> None:
        # All at once: there is no moment in which a rule is missing.
        text = "\n".join(["*filter", *changes, "COMMIT", ""])
        self._run(f"{wanted.program}-restore", "--noflush", "-w", "5", given=text)

    def _run(self, *command: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                [*self.enter, *command],
                input=given,
                capture_output=True,
                text=True,
                timeout=_SECONDS_MAX,
                check=False,
                env={"PATH": _PATH, "LC_ALL": "C"},
            )
        except FileNotFoundError as problem:
            raise SkipPlace(f"This place's network rules need iptables, and {command[0]} is not there.") from problem
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise SkipPlace(f"This machine's firewall does not answer: {problem}.") from problem
        if check and done.returncode:
            said = done.stderr.strip()
            if any(part in said.lower() for part in _NO_RIGHTS):
                raise SkipPlace(RIGHTS)
            raise SkipPlace(f"This machine's firewall did not take this place's network rules: {said[-500:]}")
        return done


def _changes(wanted: Wanted, saved: Sequence[str]) -> list[str]:
    changes = [f":{name} - [0:0]" for name in wanted.chains]  # made, or emptied
    for chain, jumps in wanted.jumps.items():
        if not any(line.startswith(f":{chain} ") for line in saved):
            raise SkipPlace(
                f"The engine keeps no rules in this machine's firewall (the chain {chain} is not there), so there is "
                'nothing to add to. Start it without --iptables=false, or choose network "none".'
            )
        lines = _lines(chain, jumps)
        if set(lines) <= set(_leading(saved, chain)):
            continue
        changes += _deletions(line for line in saved if line in lines)
        changes += [f"-I {chain} 1 {rule}" for rule in reversed(jumps)]
    for name, rules in wanted.chains.items():
        changes += [f"-A {name} {rule}" for rule in rules]
    return changes


def _lines(chain: str, rules: Sequence[str]) -> list[str]:
    return [f"-A {chain} {rule}" for rule in rules]


def _deletions(lines: Iterable[str]) -> list[str]:
    return [f"-D {line.removeprefix('-A ')}" for line in lines]


def _leading(saved: Sequence[str], chain: str) -> list[str]:
    """Return the chain's first rules, up to the first that is not ours: that one might let a packet pass."""
    found = []
    for line in saved:
        if line.startswith(f"-A {chain} "):
            if not _target(line).startswith(PREFIX) and line != "-A FORWARD -j DOCKER-USER":
                break
            found.append(line)
    return found


def _rules_of(saved: Sequence[str], chains: dict[str, tuple[str, ...]]) -> list[str]:
    return [line for line in saved if any(line.startswith(f"-A {name} ") for name in chains)]


def _target(line: str) -> str:
    found = _TARGET.search(line)
    return found[1] if found else ""
