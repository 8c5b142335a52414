"""What an administrator writes of a place's network, and the rules it comes to."""

from __future__ import annotations

from typing import Any

import pytest

from computehub_ext.backends.docker.network_rules import policy_of, rules_for, target_of
from computehub_ext.backends.docker.settings import DockerSettings
from computehub_ext.core.errors import Invalid


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("10.1.2.3", "-d 10.1.2.3/32"),
        ("192.0.2.0/24", "-d 192.0.2.0/24"),
        ("10.1.2.3:443", "-d 10.1.2.3/32 -p tcp -m tcp --dport 443"),
        ("10.0.0.0/8:8000-8080", "-d 10.0.0.0/8 -p tcp -m tcp --dport 8000:8080"),
        ("10.1.2.3:514/udp", "-d 10.1.2.3/32 -p udp -m udp --dport 514"),
        ("10.1.2.3/udp", "-d 10.1.2.3/32 -p udp"),
    ],
)
def test_an_entry_is_an_address_or_network_with_ports(entry: str, match: str) -> None:
    assert target_of(entry, "network_allow").match == match


@pytest.mark.parametrize(
    ("written", "field", "said"),
    [
        ({"network_allow": ("pypi.example.org:443",)}, "network_allow", "names stand for addresses that change"),
        ({"network_allow": ("2001:db8::1",)}, "network_allow", "would be right"),
        ({"network_allow": ("10.1.2.300",)}, "network_allow", "no address or network"),
        ({"network_allow": ("10.1.2.3/8",)}, "network_allow", "host bits set"),
        ({"network_allow": ("10.1.2.3:0",)}, "network_allow", "from 1 to 65535"),
        ({"network_allow": ("10.1.2.3:90-80",)}, "network_allow", "from 1 to 65535"),
        ({"network_allow": ("169.254.169.254:80",)}, "network_allow", "no kernel reaches"),
        ({"network_allow": ("127.0.0.1",)}, "network_allow", "no kernel reaches"),
        ({"network_deny": ("here",)}, "network_deny", "would be right"),
        ({"network_dns": ("dns.example",)}, "network_dns", "written as addresses"),
        ({"network": "none", "network_allow": ("10.1.2.3",)}, "network_allow", 'network "rules" only'),
        ({"network": "bridge", "network_dns": ("10.1.2.3",)}, "network_dns", 'network "rules" only'),
    ],
)
def test_what_is_wrong_names_its_setting(written: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as problem:
        DockerSettings(**{"image": "i", "network": "rules", **written})
    assert problem.value.details["field"] == field
    assert said in problem.value.message


def test_rules_are_of_this_machines_engine_only() -> None:
    assert DockerSettings("i", network="rules", engine_url="unix:///run/other.sock").network == "rules"
    with pytest.raises(Invalid) as problem:
        DockerSettings("i", network="rules", engine_url="tcp://gpu7.example:2376")
    assert problem.value.details["field"] in ("network", "engine_url")


def test_what_is_never_reached_comes_before_what_is_allowed_and_the_rest_is_refused() -> None:
    four, six = rules_for(policy_of(("0.0.0.0/0:80",), ("10.0.0.0/8",), ("169.254.169.254",)), "ch-1", "COMPUTEHUB-1")
    rules = four.chains["COMPUTEHUB-1"]
    order = [
        "-o docker0 ",
        "-d 169.254.169.254/32 -p udp",
        "-d 169.254.0.0/16 ",
        "-d 10.0.0.0/8 ",
        "-d 0.0.0.0/0 -p tcp",
    ]
    places = [next(at for at, rule in enumerate(rules) if rule.startswith(start)) for start in order]
    assert places == sorted(places)
    assert rules[-1] == "-j REJECT --reject-with icmp-admin-prohibited"
    # Nothing is accepted: the engine's own rules come after ours and have their say.
    assert not [rule for rule in rules if "ACCEPT" in rule]
    assert six.chains == {"COMPUTEHUB-1": ("-j DROP",)}
