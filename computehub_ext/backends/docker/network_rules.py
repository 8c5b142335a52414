"""What an administrator writes of a place's network, and the firewall's rules that it comes to.

Default deny: a kernel reaches what is listed and nothing else. Three things it reaches whatever is listed: not this
machine itself, not other containers, not the addresses where clouds hand out credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from computehub_ext.core.errors import Invalid

RULES = "rules"
"""The value of the setting ``network`` that asks for all this."""
PREFIX = "COMPUTEHUB-"
"""How the firewall's chains of all our places begin."""
NOBODY = "192.0.2.1"
"""A name server that is none (RFC 5737), so that an engine has nobody to pass a kernel's questions on to."""
ALWAYS_DENIED = (
    IPv4Network("169.254.0.0/16"),  # a cloud's metadata, credentials among it
    IPv4Network("168.63.129.16/32"),  # the same of Azure ...
    IPv4Network("100.100.100.200/32"),  # ... and of Alibaba
    IPv4Network("127.0.0.0/8"),
    IPv4Network("224.0.0.0/4"),
)
_BRIDGES = ("docker0", "docker_gwbridge", "br-+", "ch-+")
"""Interfaces behind which other containers are. Networks with interfaces of other names the engine keeps apart."""
_ENTRY = re.compile(
    r"(?P<net>[0-9.]+(?:/[0-9]+)?)(?::(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?)?(?:/(?P<protocol>tcp|udp))?"
)
_REJECT = "-j REJECT --reject-with icmp-admin-prohibited"


@dataclass(frozen=True)
class Target:
    """Whom an entry means: a network, and of it all, one protocol, or some ports of it."""

    network: IPv4Network
    protocol: str = ""
    first_port: int = 0
    last_port: int = 0

    @property
    def match(self) -> str:
        """The part of a rule that says so."""
        words = f"-d {self.network}"
        if self.protocol:
            words += f" -p {self.protocol}"
        if self.first_port:
            words += f" -m {self.protocol} --dport {self.first_port}"
            words += f":{self.last_port}" if self.last_port != self.first_port else ""
        return words


def target_of(entry: str, field: str) -> Target:
    """Read ``10.1.2.3``, ``10.1.2.3:443``, ``192.0.2.0/24:8000-8080/udp``. Raises ``Invalid`` that names the field."""
    found = _ENTRY.fullmatch(entry.strip())
    if found is None:
        raise Invalid(
            f"An address such as 10.1.2.3:443, 192.0.2.0/24 or 10.1.2.3:53/udp would be right, and {entry!r} is not: "
            "names stand for addresses that change, so a rule can't be made of one.",
            field=field,
        )
    try:
        network = IPv4Network(found["net"])
    except ValueError as problem:
        raise Invalid(f"{entry!r} is no address or network: {problem}.", field=field) from problem
    first = int(found["first"] or 0)
    last = int(found["last"] or first)
    if found["first"] and not 0 < first <= last < 65536:
        raise Invalid(f"{entry!r} has a port that is none: they go from 1 to 65535.", field=field)
    return Target(network, found["protocol"] or ("tcp" if first else ""), first, last)


@dataclass(frozen=True)
class Policy:
    """Whom the kernels of a place may reach."""

    allow: tuple[Target, ...] = ()
    deny: tuple[Target, ...] = ()
    name_servers: tuple[IPv4Address, ...] = ()


def policy_of(allow: Sequence[str], deny: Sequence[str], name_servers: Sequence[str]) -> Policy:
    """Read the three settings. Raises ``Invalid`` that names the one at fault."""
    allowed = tuple(target_of(entry, "network_allow") for entry in allow)
    for entry, target in zip(allow, allowed, strict=True):
        if any(target.network.subnet_of(never) for never in ALWAYS_DENIED):
            raise Invalid(f"{entry} is an address that no kernel reaches, whatever is allowed.", field="network_allow")
    denied = tuple(target_of(entry, "network_deny") for entry in deny)
    try:
        servers = tuple(IPv4Address(server) for server in name_servers)
    except AddressValueError as problem:
        raise Invalid(
            f"Name servers are written as addresses such as 10.0.0.53: {problem}.", field="network_dns"
        ) from problem
    return Policy(allowed, denied, servers)


@dataclass(frozen=True)
class Wanted:
    """What one table of the firewall is to hold.

    Parameters
    ----------
    program:
        ``iptables`` or ``ip6tables``.
    chains:
        Our own chains, each with its rules.
    jumps:
        What leads there: chains of others, each with the rules that have to come first in it.
    """

    program: str
    chains: dict[str, tuple[str, ...]]
    jumps: dict[str, tuple[str, ...]]


def rules_for(policy: Policy, bridge: str, chain: str) -> tuple[Wanted, Wanted]:
    """Return what the firewall holds for one bridge: of IPv4, and of IPv6, which kernels don't have."""
    inward = f"{chain}-IN"
    forward = (
        # Answers come in and nothing else does, also not from beside: a bridge's own traffic passes here as well.
        f"! -i {bridge} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
        f"-o {bridge} {_REJECT}",
        *(f"-o {other} {_REJECT}" for other in _BRIDGES),
        *_each(policy.name_servers),
        *(f"-d {network} {_REJECT}" for network in ALWAYS_DENIED),
        *(f"{target.match} {_REJECT}" for target in policy.deny),
        # Not "accept": the engine's own rules, which come next, and the administrator's keep their say.
        *(f"{target.match} -j RETURN" for target in policy.allow),
        _REJECT,
    )
    four = Wanted(
        "iptables",
        {chain: forward, inward: (_REJECT,)},
        {
            "FORWARD": ("-j DOCKER-USER",),
            "DOCKER-USER": (f"-i {bridge} -j {chain}", f"-o {bridge} -j {chain}"),
            "INPUT": (f"-i {bridge} -j {inward}",),
        },
    )
    six = Wanted(
        "ip6tables",
        {chain: ("-j DROP",)},
        {"FORWARD": (f"-i {bridge} -j {chain}", f"-o {bridge} -j {chain}"), "INPUT": (f"-i {bridge} -j {chain}",)},
    )
    return four, six


def _each(servers: Iterable[IPv4Address]) -> Iterable[str]:
    for server in servers:
        for protocol in ("udp", "tcp"):
            yield f"-d {server}/32 -p {protocol} -m {protocol} --dport 53 -j RETURN"
