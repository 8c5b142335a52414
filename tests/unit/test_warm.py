"""Kernels that are kept ready: as many as are wanted and no more, one at a time, and none when nobody comes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from computehub_ext.backends import standby_keeper, standby_rules
from computehub_ext.backends.docker.settings import DockerSettings
from computehub_ext.backends.docker.warm import groups_of
from computehub_ext.backends.standby_keeper import Bounds, StandbyKeeper
from computehub_ext.backends.standby_rules import Group
from computehub_ext.core.errors import Invalid
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


def test_fewer_than_none_are_refused() -> None:
    with pytest.raises(Invalid, match="Fewer than no kernels"):
        DockerSettings("i", warm_count={"A100": -1})
