"""Any nested structure of plain values arrives equal, with its sharing, whatever else is in the notebook."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.state import Notebook, carry, packed

names = st.text("abcdefg_", min_size=1, max_size=4).filter(lambda name: name.isidentifier() and name.strip("_"))
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(max_size=50),
    st.complex_numbers(allow_nan=False), st.dates(), st.timedeltas(), st.decimals(allow_nan=False), st.fractions(),
)  # fmt: skip
keys = st.one_of(st.integers(), st.text(), st.tuples(st.integers(), st.text()))
nested = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=5),
        st.frozensets(keys, max_size=5),
        st.sets(keys, max_size=5),
        inner.map(lambda value: [value, value]),
    ),
    max_leaves=25,
)
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def notebook_of(values: dict[str, Any]) -> Notebook:
    notebook = Notebook()
    notebook.namespace.update(values)
    return notebook


@few
@given(st.dictionaries(names, nested, max_size=5))
def test_nested_values_arrive_equal(values: dict[str, Any]) -> None:
    arrived = carry(notebook_of(values))
    assert (arrived.lost, arrived.failed) == ({}, {})
    assert {name: arrived[name] for name in values} == values


@few
@given(nested, st.lists(st.sampled_from("abcdef"), min_size=2, max_size=6, unique=True))
def test_names_of_one_object_stay_names_of_one_object(value: Any, aliases: list[str]) -> None:
    shared = [value]
    arrived = carry(notebook_of(dict.fromkeys(aliases, shared)))
    assert len({id(arrived[name]) for name in aliases}) == 1
    assert arrived[aliases[0]] == shared


@few
@given(st.lists(st.tuples(st.sampled_from(["ok", "lost"]), nested), min_size=1, max_size=8))
def test_losing_some_names_leaves_the_others_whole(values: list[tuple[str, Any]]) -> None:
    """A name is cut out of the stream in the middle; what it shares with others must still be there."""
    shared = [0]
    notebook = Notebook()
    for index, (kind, value) in enumerate(values):
        inside: list[Any] = [shared, value]
        if kind == "lost":
            inside.append(i for i in "x")
        notebook.namespace[f"{kind}_{index}"] = inside
    arrived = carry(notebook)
    assert arrived.failed == {}
    assert set(arrived.lost) == {name for name in notebook.names() if name.startswith("lost")}
    kept = [name for name in notebook.names() if name.startswith("ok")]
    assert [arrived[name][1] for name in kept] == [notebook[name][1] for name in kept]
    assert len({id(arrived[name][0]) for name in kept}) <= 1


@few
@given(st.data())
def test_views_of_one_array_share_what_they_shared(data: st.DataObject) -> None:
    count = data.draw(st.sampled_from([12, 60, 6000]))
    base = np.arange(count, dtype=data.draw(st.sampled_from(["f8", "i2", "c16", "u1"])))
    cuts = st.builds(slice, st.integers(0, count), st.integers(0, count), st.sampled_from([1, 2, -1, -3]))
    views = [base[cut] for cut in data.draw(st.lists(cuts, min_size=1, max_size=4))]
    if data.draw(st.booleans()):
        views.append(base.reshape(3, -1).T[::-1])
    values: dict[str, Any] = {f"v{index}": view for index, view in enumerate(views)}
    if data.draw(st.booleans()):
        values["base"] = base
    arrived = carry(notebook_of(dict(data.draw(st.permutations(list(values.items()))))))
    for left, array in values.items():
        np.testing.assert_array_equal(arrived[left], array)
        for right, other in values.items():
            assert np.shares_memory(arrived[left], arrived[right]) == np.shares_memory(array, other)


@few
@given(st.dictionaries(names, nested, max_size=4))
def test_the_same_session_gives_the_same_manifest_twice(values: dict[str, Any]) -> None:
    notebook = notebook_of(values)
    first, second = packed(notebook)[1], packed(notebook)[1]
    assert first == second
