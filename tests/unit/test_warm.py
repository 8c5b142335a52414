"""Kernels that are kept ready: as many as are wanted and no more, one at a time, and none when nobody comes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from computehub_ext.backends import standby_keeper, standby_rules
from computehub_ext.backends.docker import recipe
from computehub_ext.backends.docker.settings import DockerSettings
from computehub_ext.backends.docker.warm import WarmContainers, groups_of
from computehub_ext.backends.standby_keeper import Bounds, StandbyKeeper
from computehub_ext.backends.standby_rules import Group
from computehub_ext.core.errors import BackendError, Invalid
from tests.support.standing import pool

FOR_EVER = float("inf")


@dataclass(eq=False)
class Standby(standby_keeper.Standby[str]):
    is_up: bool = True


class Kept(StandbyKeeper[str, Standby]):
    """Needs no process, and goes its rounds when the test says so, on a clock that the test moves."""

    def __init__(self, *groups: Group[str], memory: int = 10**9, each: int = 1, idle: float = 0, delay: float = 0):
        self.now = 1000.0
        bounds = Bounds(30.0, FOR_EVER, FOR_EVER, delay, idle)
        super().__init__("place", bounds, clock=lambda: self.now)
        self.started: list[Standby] = []
        self.leased_kinds: set[str] = set()
        self.memory, self.each = memory, each
        self._thread = object()  # type: ignore[assignment] - the test's own rounds
        self.keep(groups)

    def _start(self, kind: str) -> Standby:
        self.started.append(Standby(kind, self.now, False))
        return self.started[-1]

    def _end(self, standby: Standby) -> None:
        standby.is_up = False

    def _pay(self, standby: Standby, until: datetime) -> None:
        """Nobody counts."""

    def _has_ended(self, standby: Standby) -> bool:
        return not standby.is_up

    def _is_listening(self, standby: Standby) -> bool:
        return True

    def _log_tail(self, standby: Standby) -> str:
        return ""

    def _leased(self, kinds: Collection[str]) -> Collection[str]:
        return self.leased_kinds

    def _has_room(self, standbys: Sequence[Standby]) -> bool:
        return standby_rules.has_room([self.each] * len(standbys), self.memory)

    def there(self) -> list[str]:
        return sorted(standby.kind for standby in self._standbys)

    def rounds(self, number: int = 20) -> list[str]:
        for _ in range(number):
            self.go_round()
            assert sum(not standby.is_ready for standby in self._standbys) <= 1
        return self.there()


def group(*kinds: str, count: int | None = None, models: tuple[str, ...] = ("T4",)) -> Group[str]:
    return Group(frozenset(models), kinds, len(kinds) if count is None else count)


@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_there_are_never_more_than_were_wanted(wanted: int) -> None:
    kept = Kept(group(*["plain"] * wanted))
    assert kept.rounds() == ["plain"] * wanted
    assert kept.ready_count == len(kept.started) == wanted


def test_the_next_waits_until_the_one_before_is_ready() -> None:
    kept = Kept(group("plain", "plain"))
    kept._is_listening = lambda standby: False  # type: ignore[method-assign]
    assert kept.rounds() == ["plain"]


def test_one_that_is_taken_makes_room_for_one_after_a_while() -> None:
    kept = Kept(group("plain", "plain"), delay=3.0)
    kept.rounds()
    assert kept.take("T4", lambda _: True) is not None
    assert kept.rounds() == ["plain"]
    kept.now += 3.0
    assert kept.rounds() == ["plain", "plain"]


def test_when_fewer_are_wanted_the_newest_end() -> None:
    kept = Kept(group("plain", "plain", "plain"))
    kept.rounds()
    kept.keep([group("plain")])
    kept.rounds()
    assert [standby.is_up for standby in kept.started] == [True, False, False]


def test_each_model_has_its_own() -> None:
    kept = Kept(group("a", "b", "c", count=2, models=("A100",)), group("plain", models=("T4", "L4")))
    assert kept.rounds() == ["a", "b", "plain"]
    assert kept.take("A100", lambda standby: standby.kind == "c") is None


def test_one_for_a_gpu_that_is_somebody_s_gives_way_to_one_that_is_free() -> None:
    kept = Kept(group("a", "b", "c", count=2))
    kept.leased_kinds = {"a"}
    assert kept.rounds() == ["b", "c"]
    kept.leased_kinds = {"b", "c"}
    assert kept.rounds() == ["a"]


def test_when_all_gpus_are_leased_it_goes_on_looking_for_the_end_of_a_lease() -> None:
    kept = Kept(group("a"), group("plain", models=("L4",)), idle=60.0)
    kept.leased_kinds = {"a", "plain"}
    assert kept.rounds() == []
    assert not kept.go_round(), "nobody wakes it when a lease ends"
    kept.leased_kinds = set()
    assert kept.rounds() == ["a", "plain"]


def test_where_memory_is_short_each_model_has_some() -> None:
    kept = Kept(group("a", "b", "c", models=("A100",)), group("x", "y", "z", models=("L4",)), memory=40, each=10)
    assert kept.rounds() == ["a", "b", "x", "y"]


def test_when_nobody_comes_they_go_and_the_next_sign_of_need_brings_them_back() -> None:
    kept = Kept(group("a", models=("A100",)), group("plain"), idle=60.0)
    assert kept.rounds() == ["a", "plain"]
    kept.now += 40
    kept.expect("T4")
    kept.now += 30
    assert kept.rounds() == ["plain"]
    assert not kept.go_round()
    kept.now += 30
    assert kept.rounds() == []
    assert kept.go_round(), "there is nothing to look after"
    kept.expect("A100")
    assert kept.rounds() == ["a"]


def test_a_start_that_found_none_is_a_sign_of_need() -> None:
    kept = Kept(group("plain"), idle=60.0, delay=3.0)
    kept.now += 100
    assert kept.rounds() == []
    assert kept.take("T4", lambda _: True) is None
    assert kept.rounds() == [], "the kernel that somebody waits for has the cores to itself"
    kept.now += 3
    assert kept.rounds() == ["plain"]


def test_one_that_fails_is_tried_again_later_and_later(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    kept = Kept(group("plain"))
    kept._is_listening = lambda standby: False  # type: ignore[method-assign]
    tries = []
    for _ in range(400):
        kept.go_round()
        if any(standby.is_up for standby in kept.started):
            tries.append(kept.now)
            kept.started[-1].is_up = False
        kept.now += 1
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(standby_keeper.FAILURE_WAIT_SECONDS_MAX, abs=2)
    assert "it ended by itself" in caplog.text


class _Ticks:
    """Wakes the thread's loop a quarter of a second later by the test's clock, until a time."""

    def __init__(self, kept: Kept, end: float) -> None:
        self.kept, self.end = kept, end

    def wait(self, seconds: float | None) -> None:
        self.kept.now += seconds or 0
        self.kept._closed = self.kept.now > self.end

    def clear(self) -> None:
        """Nobody else wakes it."""


@pytest.mark.parametrize("kind", [BackendError, RuntimeError])
def test_an_engine_that_does_not_answer_is_warned_of_a_few_times(
    caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    caplog.set_level(logging.WARNING)
    kept = Kept(group("plain"))

    def silent(standby: Standby) -> bool:
        raise kind("no answer" if kept.now < 1300 else "another answer")

    kept._is_listening = silent  # type: ignore[method-assign]
    kept._wake = _Ticks(kept, 1299)  # type: ignore[assignment]
    kept._keep()
    told = len(caplog.records)
    assert 2 <= told <= 10, "the rounds were 1200"
    kept._not_before, kept._closed = kept.now + 60, False
    kept._wake = _Ticks(kept, 1303)  # type: ignore[assignment]
    kept._keep()
    assert len(caplog.records) == told + 1, "it says another thing at once"
    assert "another answer" in caplog.text


sizes = st.lists(st.integers(0, 100), max_size=8)


@given(sizes, st.integers(0, 400))
def test_those_that_stay_hold_no_more_than_they_may(each: list[int], most: int) -> None:
    gone = set(standby_rules.over(each, most))
    assert sum(size for position, size in enumerate(each) if position not in gone) <= most
    if standby_rules.has_room(each, most):
        assert not gone


@given(st.lists(st.lists(st.integers(0, 9)).map(tuple)), st.lists(st.integers(0, 9)))
def test_a_change_leads_to_what_is_wanted_and_no_further(groups: list[tuple[int, ...]], there: list[int]) -> None:
    wanted = standby_rules.in_turns(groups)
    assert sorted(wanted) == sorted(kind for each in groups for kind in each)
    for _ in range(len(wanted) + 1):
        made = standby_rules.change(wanted, there)
        there = [kind for position, kind in enumerate(there) if position not in made.surplus]
        assert len(there) + (made.lacking is not None) <= len(wanted)
        if made.lacking is None:
            break
        there.append(made.lacking)
    assert sorted(there) == sorted(wanted)


IDLE, EACH, MEMORY = 60.0, 10, 45
TWO_GPUS = Group(frozenset({"A100"}), ("a", "b", "c"), 2)
SHARED = Group(frozenset({"T4", "L4"}), ("plain", "plain", "plain"), 3)


class Place(RuleBasedStateMachine):
    """People come and go, GPUs are leased, kernels die: the bounds hold after every round."""

    @initialize()
    def begin(self) -> None:
        self.kept = Kept(TWO_GPUS, SHARED, memory=MEMORY, each=EACH, idle=IDLE)
        self.needed_at = {"A100": self.kept.now, "T4": self.kept.now}

    @rule(model=st.sampled_from(["A100", "T4"]))
    def somebody_starts(self, model: str) -> None:
        kinds = TWO_GPUS.kinds if model == "A100" else SHARED.kinds
        taken = self.kept.take(model, lambda standby: standby.kind in kinds)
        self.needed_at[model] = self.kept.now
        if taken is not None:
            assert taken.is_ready
            assert taken not in self.kept._standbys
            if model == "A100":
                self.kept.leased_kinds |= {taken.kind}

    @rule(model=st.sampled_from(["A100", "T4"]))
    def somebody_looks(self, model: str) -> None:
        self.kept.expect(model)
        self.needed_at[model] = self.kept.now

    @rule(kinds=st.sets(st.sampled_from("abc")))
    def gpus_are_leased(self, kinds: set[str]) -> None:
        self.kept.leased_kinds = kinds

    @precondition(lambda self: self.kept._standbys)
    @rule(which=st.integers(0, 10))
    def one_dies(self, which: int) -> None:
        self.kept._standbys[which % len(self.kept._standbys)].is_up = False

    @rule(seconds=st.sampled_from([0.25, 5.0, 30.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.kept.now += seconds
        self.kept.go_round()

    @rule()
    def it_settles(self) -> None:
        self.kept.now += 0.1
        for _ in range(20):
            self.kept.go_round()
        if self.kept.now >= self.kept._not_before and not self.kept._failures:
            there = self.kept.there()
            expected = min(len(self.wanted()), MEMORY // EACH)
            assert len(there) == expected
            assert set(there) <= set(self.wanted())

    def wanted(self) -> list[str]:
        free = [kind for kind in TWO_GPUS.kinds if kind not in self.kept.leased_kinds][:2]
        found = free if self.kept.now - self.needed_at["A100"] < IDLE else []
        return [*found, *(SHARED.kinds if self.kept.now - self.needed_at["T4"] < IDLE else ())]

    @invariant()
    def the_bounds_hold(self) -> None:
        there = self.kept.there()
        assert len(there) * EACH <= MEMORY
        assert sum(kind in TWO_GPUS.kinds for kind in there) <= TWO_GPUS.count
        assert there.count("plain") <= SHARED.count
        assert all(there.count(kind) <= 1 for kind in TWO_GPUS.kinds)


TestPlace = Place.TestCase


def _groups(settings: DockerSettings, *pools: object) -> list[tuple[set[str], tuple[tuple[str, ...], ...], int]]:
    found = groups_of(settings, pools, lambda uuids: uuids)  # type: ignore[arg-type,return-value]
    return [(set(each.models), each.kinds, each.count) for each in found]  # type: ignore[misc]


def test_a_number_is_for_every_model_and_simulated_ones_share() -> None:
    pools = [pool("A100", "GPU-a", "GPU-b"), pool("T4"), pool("L4")]
    assert _groups(DockerSettings("i", warm_count=2), *pools) == [
        ({"T4", "L4"}, ((), ()), 2),
        ({"A100"}, (("GPU-a",), ("GPU-b",)), 2),
    ]


def test_numbers_by_model_are_added_where_one_kernel_serves_them() -> None:
    settings = DockerSettings("i", warm_count={"A100": 1, "T4": 2, "L4": 1})
    assert _groups(settings, pool("A100", "GPU-a"), pool("A100", "GPU-b"), pool("T4"), pool("L4"), pool("H100")) == [
        ({"T4", "L4", "H100"}, ((), (), ()), 3),
        ({"A100"}, (("GPU-a",), ("GPU-b",)), 1),
    ]


def test_where_no_gpu_is_asked_for_all_models_share() -> None:
    settings = DockerSettings("i", warm_count=1, gpus=False)
    assert _groups(settings, pool("CPU", "0", "1"), pool("T4")) == [({"CPU", "T4"}, ((),), 1)]


def test_a_model_with_real_gpus_has_its_target_once() -> None:
    settings = DockerSettings("i", warm_count={"A100": 1, "T4": 2})
    both = [pool("A100", "GPU-a"), pool("A100")]
    assert _groups(settings, *both) == [({"A100"}, (("GPU-a",),), 1)]
    assert _groups(settings, *both, pool("T4")) == [({"T4"}, ((), ()), 2), ({"A100"}, (("GPU-a",),), 1)]


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"warm_count": {"A100": -1}}, "warm_count", "Fewer than no kernels"),
        ({"warm_count": 1, "user": "account"}, "warm_count", "0 would be right"),
        ({"warm_count": {"A100": 1}, "user": "account"}, "warm_count", "0 would be right"),
        ({"warm_idle_seconds": -1}, "warm_idle_seconds", "0 to keep them for good; -1 is not"),
        ({"warm_idle_seconds": NAN}, "warm_idle_seconds", "nan is not"),
        ({"warm_memory_mib_max": -5}, "warm_memory_mib_max", "at least 1; one takes about 40"),
        ({"warm_lifetime_seconds": 0}, "warm_lifetime_seconds", "at least 1"),
        ({"warm_lifetime_seconds": FOR_EVER}, "warm_lifetime_seconds", "inf is not"),
        ({"warm_age_seconds_max": 0}, "warm_age_seconds_max", "at least 1"),
        ({"warm_replace_delay_seconds": NAN}, "warm_replace_delay_seconds", "0 for at once"),
    ],
)
def test_what_could_keep_none_ready_is_refused(changes: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as problem:
        DockerSettings("i", **changes)
    assert problem.value.details["field"] == field
    assert said in problem.value.message


def test_what_keeps_none_or_keeps_them_for_good_is_accepted() -> None:
    DockerSettings("i", user="account", warm_count={"A100": 0}, warm_idle_seconds=0, warm_replace_delay_seconds=0)


@pytest.mark.parametrize(
    ("ports", "count", "least"),
    [("40000-40005", 0, 0), ("40000-40005", 3, 24), ("40000-40023", 3, 0), ("40000-40022", {"A100": 1, "T4": 2}, 24)],
)
def test_the_ports_are_enough_for_the_standbys_and_one_kernel(
    ports: str, count: int | dict[str, int], least: int
) -> None:
    made = partial(
        DockerSettings, "i", transport="curve", network="bridge", publish_ports=ports, warm_count=count, user="7:7"
    )
    if not least:
        made()
        return
    with pytest.raises(Invalid, match=f"3 that are kept ready needs a range of {least}") as problem:
        made()
    assert problem.value.details["field"] == "publish_ports"


class _Engine:
    """What standbys ask of a place's containers, without an engine."""

    def __init__(self, **settings: Any) -> None:
        self.settings = DockerSettings("i", warm_count=1, **settings)
        self.engine, self.image_id, self.there = self, "image", list[Any]()

    def image(self) -> Any:
        return SimpleNamespace(id=self.image_id)

    def memory_bytes(self, name: str) -> int:
        return 40 * 2**20

    def all(self) -> list[Any]:
        return self.there

    def placement_of(self, name: str) -> str:
        return name


def test_where_one_is_too_large_none_is_started_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    engine = _Engine(warm_memory_mib_max=39)
    warm = WarmContainers(engine, "place")  # type: ignore[arg-type]
    assert warm._has_room([]), "nobody knows yet how large one is"
    warm._sizes([SimpleNamespace(container=SimpleNamespace(id="c", image_id="image"))])  # type: ignore[list-item]
    assert not warm._has_room([])
    assert "0 kernels ready and no more" in caplog.text
    engine.image_id = "another"
    assert warm._has_room([]), "nobody knows how large one of another image is"


def _container(*uuids: str, late: tuple[str, ...] = ()) -> dict[str, Any]:
    folder = SimpleNamespace(key="key", inside="/run/computehub", mounts=list, window=SimpleNamespace(place=str))
    wanted = recipe.Wanted((7, 7), (), "/", "/tmp", uuids, late)
    return recipe.container_of(DockerSettings("i"), SimpleNamespace(id="image"), wanted, folder, "owner", "p")  # type: ignore[arg-type]


def test_an_image_s_own_labels_say_nothing_of_a_kernel() -> None:
    """The engine takes those that a container does not name: they would make a GPU somebody's."""
    labels = _container()["Labels"]
    assert (labels["computehub.devices"], labels["computehub.late"]) == ("", "")
    assert _container("GPU-a", "GPU-b")["Labels"]["computehub.devices"] == "GPU-a,GPU-b"


def test_a_kernel_without_gpus_holds_none() -> None:
    engine = _Engine()
    warm = WarmContainers(engine, "place")  # type: ignore[arg-type]
    plain, free, held = (recipe.Wanted((7, 7), (), "/", "/tmp", uuids) for uuids in ((), ("GPU-a",), ("GPU-b",)))
    engine.there = [
        SimpleNamespace(name="x", is_over=False, labels=_container()["Labels"]),
        SimpleNamespace(name="y", is_over=False, labels=_container("GPU-b")["Labels"]),
    ]
    assert warm._leased([plain, free, held]) == [held]
    assert warm._leased_uuids == {"GPU-b"}
