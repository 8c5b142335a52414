"""A place with network rules: kernels reach what is listed and nothing else, or none is started."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from computehub_ext.backends.docker import DockerBackend
from computehub_ext.backends.model import LookState
from computehub_ext.core.errors import SkipPlace
from computehub_ext.testing.docker_engine import Engine, shared_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.support.containers import Place, containers_of, nothing_left_of, state_folder
from tests.support.netns import Machine, NameServer, server_at, server_here

pytestmark = pytest.mark.needs("docker")

METADATA = "169.254.169.254"
_REACH = """
import json, socket
def reach(address, port):
    try:
        socket.create_connection((address, port), timeout=5).close()
        return "reached"
    except OSError as error:
        return type(error).__name__ + str(error.errno or "")
def resolve(name):
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        return type(error).__name__
"""
_NOBODY = ("setpriv", "--reuid=12345", "--clear-groups")
_ADMIN = ("--inh-caps=+net_admin", "--ambient-caps=+net_admin")
REFUSED = "OSError113"
"""What a cell sees at once where a rule says no: "no route to host"."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with shared_engine("fenced") as engine:
        yield engine


@pytest.fixture(scope="module")
def machine(engine: Engine) -> Machine:
    return Machine(engine)


@pytest.fixture
def elsewhere(engine: Engine) -> str:
    """An address on another machine."""
    return engine.host_address


class RulesPlace(Place):
    machine: Machine

    def backend(self, **changes: object) -> DockerBackend:
        return super().backend(**{"network": "rules", **changes})

    def furnish(self, backend: DockerBackend) -> None:
        backend.containers.network.firewall.enter = self.machine.enter


@pytest.fixture
def place(engine: Engine, machine: Machine, tmp_path: Path) -> Iterator[RulesPlace]:
    before = machine.rules(), machine.rules("ip6tables")
    with state_folder() as state_dir:
        place = RulesPlace(engine, state_dir, tmp_path)
        place.machine = machine
        yield place
        nothing_left_of(place.backends)
        for backend in place.backends:
            assert backend.engine.network(backend.containers.network.name) is None
            backend.close()
    # Nothing of ours is left; what the engine itself keeps is as it was.
    assert _without_counts(machine.rules(), machine.rules("ip6tables")) == _without_counts(*before)


def _without_counts(*saved: str) -> list[str]:
    return [line.partition(" [")[0] for text in saved for line in text.splitlines() if not line.startswith("#")]


def _tell(kernel: KernelTalk, **expressions: str) -> dict[str, str]:
    parts = ", ".join(f"{name!r}: {expression}" for name, expression in expressions.items())
    found: dict[str, str] = json.loads(kernel.run(f"{_REACH}\nprint(json.dumps({{{parts}}}))"))
    return found


def test_a_cell_reaches_what_is_listed_and_nothing_else(
    place: RulesPlace, engine: Engine, machine: Machine, elsewhere: str
) -> None:
    with ExitStack() as stack:
        allowed, other = stack.enter_context(server_here()), stack.enter_context(server_here())
        own = stack.enter_context(machine.server())  # such as the control plane's port
        _give_metadata(stack, machine)
        client = stack.enter_context(closing(engine.client()))
        sleeper = client.containers.run(
            engine.image,
            [engine.python, "-m", "http.server", "8000"],
            detach=True,
            ports={"8000/tcp": None},
            environment={"PYTHONUNBUFFERED": "1"},
        )
        stack.callback(sleeper.remove, force=True)
        wait_for(lambda: b"Serving" in sleeper.logs(), message="the other container did not listen")
        sleeper.reload()
        published = sleeper.attrs["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
        neighbour_address = sleeper.attrs["NetworkSettings"]["IPAddress"]

        # All of the world at these ports: what is never reached is not reached all the same.
        ports = (allowed, own, published, 8000, 80)
        backend = place.backend(network_allow=tuple(f"0.0.0.0/0:{port}" for port in ports))
        attempts = {
            "allowed": f'reach("{elsewhere}", {allowed})',
            "other_port": f'reach("{elsewhere}", {other})',
            "machine": f'reach("{engine.address}", {own})',
            "metadata": f'reach("{METADATA}", 80)',
            "container": f'reach("{neighbour_address}", 8000)',
            "published": f'reach("{engine.address}", {published})',
        }
        with KernelTalk(backend.start(place.ask()).connection_info) as kernel:
            gateway = f'reach("{_gateway(backend)}", {own})'
            found = _tell(kernel, **attempts, gateway=gateway, name='resolve("course.example")')
        assert found == {**dict.fromkeys([*attempts, "gateway"], REFUSED), "allowed": "reached", "name": "gaierror"}

        # On the engine's usual bridge all of them are reached, so that they were there to be refused.
        with KernelTalk(place.backend(network="bridge").start(place.ask()).connection_info) as kernel:
            assert _tell(kernel, **attempts) == dict.fromkeys(attempts, "reached")


def _gateway(backend: DockerBackend) -> str:
    network = backend.engine.network(backend.containers.network.name)
    assert network is not None
    return str(network["IPAM"]["Config"][0]["Gateway"])


def _give_metadata(stack: ExitStack, machine: Machine) -> None:
    """Answer at a cloud's address on a machine beside the engine's."""
    address = f"{METADATA}/32"
    subprocess.run(["ip", "address", "add", address, "dev", "chd-fenced"], check=True)
    stack.callback(subprocess.run, ["ip", "address", "delete", address, "dev", "chd-fenced"], check=True)
    machine.run("ip", "route", "add", address, "dev", "uplink")
    stack.callback(machine.run, "ip", "route", "delete", address, "dev", "uplink")
    stack.enter_context(server_at(METADATA, 80))


def test_kernels_of_one_place_do_not_reach_each_other(place: RulesPlace) -> None:
    backend = place.backend(network_allow=("0.0.0.0/0",))
    listen = "s = socket.create_server(('0.0.0.0', 9000)); print(socket.gethostbyname(socket.gethostname()))"
    with (
        KernelTalk(backend.start(place.ask()).connection_info) as one,
        KernelTalk(backend.start(place.ask()).connection_info) as other,
    ):
        address = one.run(f"import socket; {listen}").strip()
        assert _tell(one, own=f'reach("{address}", 9000)') == {"own": "reached"}
        assert _tell(other, neighbour=f'reach("{address}", 9000)') == {"neighbour": REFUSED}


def test_names_resolve_where_a_name_server_is_listed(place: RulesPlace, elsewhere: str) -> None:
    with closing(NameServer(elsewhere, "203.0.113.7")) as server:
        backend = place.backend(network_dns=(elsewhere,))
        with KernelTalk(backend.start(place.ask()).connection_info) as kernel:
            assert _tell(kernel, name='resolve("course.example")') == {"name": "203.0.113.7"}
        assert set(server.asked) == {"course.example"}
        closed = place.backend()
        with KernelTalk(closed.start(place.ask()).connection_info) as kernel:
            assert _tell(kernel, name='resolve("secret.example")') == {"name": "gaierror"}
        assert set(server.asked) == {"course.example"}


def test_what_is_denied_is_refused_though_it_is_allowed(place: RulesPlace, elsewhere: str) -> None:
    with server_here() as one, server_here() as other:
        backend = place.backend(network_allow=(elsewhere,), network_deny=(f"{elsewhere}:{other}",))
        with KernelTalk(backend.start(place.ask()).connection_info) as kernel:
            found = _tell(kernel, one=f'reach("{elsewhere}", {one})', other=f'reach("{elsewhere}", {other})')
    assert found == {"one": "reached", "other": REFUSED}


def test_rules_that_were_flushed_are_put_back_before_a_start(
    place: RulesPlace, machine: Machine, elsewhere: str
) -> None:
    backend = place.backend()
    assert backend.health().ok
    with server_here() as port:
        attempt = {"flushed": f'reach("{elsewhere}", {port})'}
        with KernelTalk(backend.start(place.ask()).connection_info) as kernel:
            assert _tell(kernel, **attempt) == {"flushed": REFUSED}
            rules = machine.rules()
            machine.run("iptables", "-F", "DOCKER-USER")
            machine.run("iptables", "-F", "INPUT")
            machine.run("iptables", "-A", "DOCKER-USER", "-i", "uplink", "-j", "ACCEPT")
            assert _tell(kernel, **attempt) == {"flushed": "reached"}  # so that the rules are what refuses
            backend.start(place.ask())
            assert _tell(kernel, **attempt) == {"flushed": REFUSED}
            # Somebody's rule in front lets everything pass.
            machine.run("iptables", "-I", "DOCKER-USER", "-j", "ACCEPT")
            assert _tell(kernel, **attempt) == {"flushed": "reached"}
            backend.containers.network.ensure()
            assert _tell(kernel, **attempt) == {"flushed": REFUSED}
            machine.run("iptables", "-D", "DOCKER-USER", "-j", "ACCEPT")
            machine.run("iptables", "-A", "DOCKER-USER", "-j", "RETURN")  # as dockerd ends its chain
            assert sorted(_without_counts(machine.rules())) == sorted(_without_counts(rules))
            assert backend.health().ok


def test_without_rules_nothing_starts_and_what_runs_is_taken_off(
    place: RulesPlace, machine: Machine, elsewhere: str
) -> None:
    backend = place.backend()
    request = place.ask()
    with server_here() as port, KernelTalk(backend.start(request).connection_info) as kernel:
        attempt = {"it": f'reach("{elsewhere}", {port})'}
        saved = machine.rules()
        try:
            # An engine that keeps no rules, as with --iptables=false.
            machine.run("iptables", "-F", "FORWARD")
            machine.run("iptables", "-P", "FORWARD", "ACCEPT")
            machine.run("iptables", "-F", "DOCKER-USER")
            machine.run("iptables", "-X", "DOCKER-USER")
            assert _tell(kernel, **attempt) == {"it": "reached"}
            with pytest.raises(SkipPlace, match="keeps no rules"):
                backend.start(place.ask())
            assert len(containers_of(backend)) == 1
            assert _tell(kernel, **attempt) == {"it": "OSError101"}  # no network at all
            assert backend.look(request.placement_id).state is LookState.RUNNING
            health = backend.health()
            assert not health.ok
            assert "--iptables=false" in health.message
        finally:
            machine.restore(saved)
        assert backend.health().ok
        assert _tell(kernel, **attempt) == {"it": REFUSED}  # it has its network again, with rules


def test_without_the_right_to_set_rules_the_place_is_unwell(place: RulesPlace, machine: Machine) -> None:
    backend = place.backend()
    backend.containers.network.firewall.enter = (*machine.enter, *_NOBODY)
    health = backend.health()
    assert not health.ok
    assert "CAP_NET_ADMIN" in health.message
    with pytest.raises(SkipPlace, match="CAP_NET_ADMIN"):
        backend.start(place.ask())
    assert containers_of(backend) == []
    backend.containers.network.firewall.enter = (*machine.enter, *_NOBODY, *_ADMIN)
    assert backend.health().ok


def test_an_engine_whose_network_is_elsewhere_is_told_so(place: RulesPlace) -> None:
    backend = place.backend()
    backend.containers.network.firewall.enter = ()  # this machine's own, where the engine's bridge is not
    assert "not where ComputeHub runs" in backend.health().message
    with pytest.raises(SkipPlace, match="not where ComputeHub runs"):
        backend.start(place.ask())


def test_a_standby_is_taken_over_under_the_same_rules(place: RulesPlace, elsewhere: str) -> None:
    backend = place.backend(warm_count=1)
    wait_for(lambda: backend.warm_count == 1, message="no standby kernel was ready")
    placed = backend.start(place.ask())
    assert placed.warm
    with server_here() as port, KernelTalk(placed.connection_info) as kernel:
        assert _tell(kernel, it=f'reach("{elsewhere}", {port})') == {"it": REFUSED}


def test_a_successor_finds_the_network_and_the_rules(place: RulesPlace, elsewhere: str) -> None:
    first = place.backend()
    request = place.ask()
    with server_here() as port, KernelTalk(first.start(request).connection_info) as kernel:
        first.close()  # with a kernel that goes on, under its rules
        assert _tell(kernel, it=f'reach("{elsewhere}", {port})') == {"it": REFUSED}
        second = place.backend(network_allow=(f"{elsewhere}:{port}",))
        assert second.health().ok
        assert _tell(kernel, it=f'reach("{elsewhere}", {port})') == {"it": "reached"}
