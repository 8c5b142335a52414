"""What comes in is held against openapi.yaml, and a refusal names the field and what would be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from computehub_ext.api.handlers.documents import as_openapi_30
from computehub_ext.api.routes import CONTRACT_PATH
from computehub_ext.core.contract import Contract
from computehub_ext.core.errors import Invalid, NotFound


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract(CONTRACT_PATH)


def test_the_contract_is_valid_openapi(contract: Contract) -> None:
    validate(contract.document)
    json.dumps(contract.document)  # an unquoted time would have become a Python object


def test_swagger_ui_gets_valid_openapi_3_0(contract: Contract) -> None:
    document = as_openapi_30(contract.document)
    validate(document)
    assert document["openapi"] == "3.0.3"
    assert document["paths"].keys() == contract.document["paths"].keys()
    assert contract.document["openapi"] == "3.1.0", "the contract itself must stay as it is"


def test_examples_obey_their_schemas(contract: Contract) -> None:
    for path, method, declared in contract.operations():
        for kind, content in declared.get("requestBody", {}).get("content", {}).items():
            assert kind == "application/json"
            contract.operation(path, method).check_body(content["example"])
    for schema in contract.document["components"]["schemas"].values():
        if "example" in schema:
            contract.validator(schema).validate(schema["example"])
    for response in contract.document["components"]["responses"].values():
        content = response["content"]["application/json"]
        if "example" in content:
            contract.validator({"$ref": "#/components/schemas/Error"}).validate(content["example"])


def _bodies(contract: Contract) -> dict[str, tuple[Any, Any]]:
    """The schema and the example of each body that may come in, by its operation."""
    return {
        f"{method} {path}": (content["schema"], content["example"])
        for path, method, declared in contract.operations()
        for content in contract.resolve(declared.get("requestBody", {})).get("content", {}).values()
    }


def test_the_quick_check_is_used_for_every_body(contract: Contract) -> None:
    for operation, (schema, example) in _bodies(contract).items():
        assert contract.quick_check(schema)(example), operation


_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.integers(), st.floats(allow_nan=False), st.text(max_size=5),
    st.sampled_from(["A100\n", "\n", "T4", "2026-03-02T14:00:00Z", "2026-03-02", "2026-03-02T14:00:00", "x" * 2000,
                     "Europe/Berlin", "all", "0.ipynb", "approval_1\n", 1.0, 1e300, 10**30, "\u0085"]),
    st.lists(st.text(max_size=3), max_size=3), st.dictionaries(st.text(max_size=3), st.none(), max_size=1),
)  # fmt: skip


@given(st.data())
def test_the_quick_check_lets_nothing_through_that_the_other_refuses(contract: Contract, data: st.DataObject) -> None:
    schema, example = data.draw(st.sampled_from(list(_bodies(contract).values())))
    names = st.sampled_from([*contract.resolve(schema)["properties"], "other"])
    changed = {**example, **data.draw(st.dictionaries(names, _ODD, max_size=3))}
    for name in data.draw(st.sets(st.sampled_from(list(example)), max_size=1)):
        changed.pop(name)
    if _check_of(contract, schema)(changed):
        contract.validator(schema).validate(changed)


def _check_of(contract: Contract, schema: Any) -> Callable[[Any], bool]:
    key = json.dumps(schema)
    if key not in _CHECKS:
        _CHECKS[key] = contract.quick_check(schema)
    return _CHECKS[key]


_CHECKS: dict[str, Callable[[Any], bool]] = {}


def test_a_keyword_that_the_quick_check_does_not_know_is_left_to_the_other(contract: Contract) -> None:
    schema = {"properties": {"a": {"anyOf": [{"type": "array", "contains": {"type": "null"}}]}}}
    assert not contract.quick_check(schema)({})
    assert contract.validator(schema).is_valid({})


def test_every_field_that_may_come_in_is_described(contract: Contract) -> None:
    """The description is what a refusal tells."""
    for path, method, declared in contract.operations():
        for content in declared.get("requestBody", {}).get("content", {}).values():
            for name, schema in contract.resolve(content["schema"])["properties"].items():
                assert contract.resolve(schema).get("description"), f"{method} {path}: {name}"


def test_every_write_of_bookings_and_money_needs_a_key(contract: Contract) -> None:
    keyed = {f"{method} {path}" for path, method, _ in contract.operations()
             if any(p.name == "Idempotency-Key" for p in contract.operation(path, method).parameters)}  # fmt: skip
    assert keyed == {
        "post bookings",
        "post bookings/{booking_id}/cancel",
        "post bookings/{booking_id}/move",
        "post booking-series",
        "post booking-series/{series_id}/cancel",
        "post leases/{lease_id}/extend",
        "post leases/{lease_id}/shorten",
        "post leases/{lease_id}/end",
        "post switches",
    }


@pytest.mark.parametrize(
    ("path", "body", "field", "sentence"),
    [
        ("bookings", None, "body", "The body must be a JSON object, such as {}."),
        ("bookings", [], "body", "The body must be a JSON object, such as {}."),
        ("bookings", {"count": 0}, "count", "count must be at least 1, not 0."),
        ("bookings", {"count": 65}, "count", "count must be at most 64, not 65."),
        ("bookings", {"count": "2"}, "count", 'count must be a whole number, not "2".'),
        ("bookings", {"count": True}, "count", "count must be a whole number, not true."),
        ("bookings", {"modle": "T4"}, "modle", '"modle" is not a field here: did you mean model?'),
        ("bookings", {"model": ""}, "model", "model must not be empty."),
        ("bookings", {"model": "T\n4"}, "model", "model is not right: The GPU model, any case, such as A100 or"),
        ("bookings", {"model": "x" * 81}, "model", "model is too long: at most 80, not 81."),
        ("bookings", {"starts_at": "tomorrow"}, "starts_at", "starts_at must be a time with its offset, such as 2026-"),
        ("bookings", {"starts_at": "2026-03-02T09:00:00"}, "starts_at", "starts_at must be a time with its offset"),
        ("bookings", {"starts_at": "9999-12-31T23:59:59Z"}, "starts_at", "starts_at must be a time with its offset"),
        ("bookings", {"duration_seconds": 1.5}, "duration_seconds", "duration_seconds must be a whole number or null"),
        ("leases/{lease_id}/extend", {}, "seconds", "seconds is missing."),
        ("leases/{lease_id}/end", {"now": True}, "body", "This takes no body: send none, or {}."),
        ("switches", {"target": "cloud"}, "target", 'target must be one of gpu, cpu, not "cloud".'),
        ("switches", {"target": "gpu", "keep": "some"}, "keep", "keep must be one of all, none"),
        ("switches", {"target": "gpu", "keep": ["a", 1]}, "keep.1", "keep.1 must be text, not 1."),
    ],
)
def test_a_refused_body_names_the_field(contract: Contract, path: str, body: Any, field: str, sentence: str) -> None:
    with pytest.raises(Invalid) as refusal:
        contract.operation(path, "post").check_body(body)
    assert refusal.value.details["field"] == field
    assert refusal.value.message.startswith(sentence)


def test_parameters_come_out_in_their_types(contract: Contract) -> None:
    leases = contract.operation("leases", "get")
    assert leases.check_parameters({}, {}) == {"live": False, "limit": 50}
    asked = {"live": ["true"], "limit": ["7"], "cursor": ["abc"], "1792368000000": [""]}
    assert leases.check_parameters(asked, {}) == {"live": True, "limit": 7, "cursor": "abc"}


@pytest.mark.parametrize(
    ("query", "field", "sentence"),
    [
        ({"limit": ["x"]}, "limit", 'limit must be a whole number, not "x".'),
        ({"limit": ["0"]}, "limit", "limit must be at least 1, not 0."),
        ({"limit": ["9" * 500]}, "limit", "limit must be a whole number, not "),
        ({"limit": ["²"]}, "limit", 'limit must be a whole number, not "\\u00b2".'),
        ({"live": ["yes"]}, "live", 'live must be true or false, not "yes".'),
        ({"cursor": ["a b"]}, "cursor", "cursor is not right: "),
    ],
)
def test_a_refused_parameter_is_named(
    contract: Contract, query: dict[str, list[str]], field: str, sentence: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        contract.operation("leases", "get").check_parameters(query, {})
    assert refusal.value.details["field"] == field
    assert refusal.value.message.startswith(sentence)


def test_what_can_be_nobodys_id_is_not_found(contract: Contract) -> None:
    with pytest.raises(NotFound):
        contract.operation("leases/{lease_id}", "get").check_parameters({}, {"lease_id": "../../etc"})


def test_a_required_parameter_that_is_missing_is_named(contract: Contract) -> None:
    with pytest.raises(Invalid) as refusal:
        contract.operation("pools/{pool_id}/availability", "get").check_parameters({}, {"pool_id": "p"})
    assert refusal.value.message.startswith("The parameter start is missing. Where to begin")


def test_the_document_is_read_at_the_first_question_only(tmp_path: Path) -> None:
    contract = Contract(tmp_path / "nowhere.yaml")
    with pytest.raises(FileNotFoundError):
        contract.operation("me", "get")
