"""The contract, openapi.yaml, as the handlers use it: it says what may come in, and words the refusal when it does not.

The document is parsed at the first request, not at import: a Jupyter server that nobody asks for a GPU pays nothing.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import Invalid, NotFound

_IN_WORDS = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false",
                  "array": "a list", "object": "an object", "null": "null"}  # fmt: skip

# What fastjsonschema, which knows drafts up to 7, reads as Draft 2020-12 means it.
_READ_ALIKE = {"type", "enum", "not", "oneOf", "anyOf", "allOf", "pattern", "minLength", "maxLength", "minimum",
               "maximum", "exclusiveMinimum", "exclusiveMaximum", "items", "minItems", "maxItems", "properties",
               "required", "additionalProperties", "format", "description", "default", "example",
               "examples"}  # fmt: skip


class Contract:
    """One OpenAPI 3.1 document.

    Parameters
    ----------
    path:
        Where the YAML file is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def document(self) -> dict[str, Any]:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where there, is ten times as fast
        document: dict[str, Any] = yaml.load(self.path.read_bytes(), Loader=loader)
        return document

    @lru_cache(maxsize=256)  # noqa: B019  one contract lives as long as its server
    def operation(self, path: str, method: str) -> Operation:
        """Return what ``method`` of ``path`` (``bookings/{booking_id}``) takes; ``KeyError`` where it is undeclared."""
        return Operation(self, f"/{path}", method.lower())

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield ``(path without its slash, method, declaration)`` for all."""
        for path, item in self.document["paths"].items():
            for method, declared in item.items():
                if method in {"get", "put", "post", "patch", "delete"}:
                    yield path.lstrip("/"), method, declared

    def resolve(self, node: Any) -> Any:
        """Follow a local ``$ref``."""
        while isinstance(node, dict) and "$ref" in node:
            found: Any = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            node = found
        return node

    def validator(self, schema: Any) -> Any:
        """A validator for a JSON Schema of the document."""
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

        return Draft202012Validator(self.written_out(schema), format_checker=_formats())

    def quick_check(self, schema: Any) -> Callable[[Any], bool]:
        """Return what says in microseconds whether a value obeys; where it does not, ``validator`` knows why."""
        import fastjsonschema

        written = self.written_out(schema)
        if not _keywords(written) <= _READ_ALIKE:
            return lambda value: False
        formats = {"date-time": is_aware_time}
        check = fastjsonschema.compile(written, formats=formats, use_default=False, detailed_exceptions=False)

        def obeys(value: Any) -> bool:
            try:
                check(value)
            except fastjsonschema.JsonSchemaException:
                return False
            return True

        return obeys

    def written_out(self, node: Any) -> Any:
        """A schema without ``$ref``s: to follow them takes a validator longer than to check what they say.

        None of a request's schemas contains itself; one that did would end here in a RecursionError, in every test.
        """
        if isinstance(node, list):
            return [self.written_out(each) for each in node]
        if not isinstance(node, dict):
            return node
        beside = {name: self.written_out(value) for name, value in node.items() if name != "$ref"}
        if "$ref" not in node:
            return beside
        return {**self.written_out(self.resolve({"$ref": node["$ref"]})), **beside}


class Operation:
    """One method of one path: its parameters and its body."""

    def __init__(self, contract: Contract, path: str, method: str) -> None:
        item = contract.document["paths"][path]
        self.declared: dict[str, Any] = item[method]
        nodes = [*item.get("parameters", []), *self.declared.get("parameters", [])]
        self.parameters = [Parameter(contract, node) for node in nodes]
        body = contract.resolve(self.declared.get("requestBody"))
        self.takes_body = body is not None
        self.body_required = bool(body and body.get("required"))
        schema = body["content"]["application/json"]["schema"] if body else None
        self._body = contract.validator(schema) if body else None
        self._is_right = contract.quick_check(schema) if body else None

    def check_body(self, body: Any) -> dict[str, Any]:
        """Return the body, or raise ``Invalid`` naming the field and what would be right."""
        if self._body is None or self._is_right is None:
            if body not in (None, {}):
                raise Invalid("This takes no body: send none, or {}.", field="body")
            return {}
        if body is None and not self.body_required:
            return {}
        if not isinstance(body, dict):
            raise Invalid("The body must be a JSON object, such as {}.", field="body")
        if not self._is_right(body):
            _refuse(self._body.iter_errors(body))
        return body

    def check_parameters(self, query: Mapping[str, list[str]], path: Mapping[str, str]) -> dict[str, Any]:
        """Return query and path parameters as the types that they are declared with.

        Raises
        ------
        NotFound
            If a part of the path can't be the id of anything.
        Invalid
            If a query parameter is missing or wrong.
        """
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.place == "path":
                values[parameter.name] = parameter.check_path(path[parameter.name])
            elif parameter.place == "query":
                value = parameter.check_query(query.get(parameter.name, []))
                if value is not None:
                    values[parameter.name] = value
        return values


class Parameter:
    def __init__(self, contract: Contract, node: dict[str, Any]) -> None:
        declared = contract.resolve(node)
        self.name: str = declared["name"]
        self.place: str = declared["in"]
        self._required: bool = declared.get("required", False)
        self._schema: dict[str, Any] = contract.resolve(declared["schema"])
        self._description: str = declared.get("description", "")
        self._validator = contract.validator(declared["schema"])

    def check_path(self, text: str) -> str:
        if not self._validator.is_valid(text):
            raise NotFound(f"Nothing has the {self.name.replace('_', ' ')} {text[:80]!r}.")
        return text

    def check_query(self, texts: list[str]) -> Any:
        if not texts:
            if self._required:
                raise Invalid(f"The parameter {self.name} is missing. {self._description}".strip(), field=self.name)
            return self._schema.get("default")
        value = _decoded(texts[-1], self._schema)
        _refuse(self._validator.iter_errors(value), within=self.name)
        return value


def _decoded(text: str, schema: dict[str, Any]) -> Any:
    """Read a query parameter as the type that the schema wants; what can't be read stays text, and is refused."""
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "integer" in kinds and text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and len(text) < 20:
        return int(text)
    if "boolean" in kinds and text in {"true", "false"}:
        return text == "true"
    return text


def _refuse(errors: Iterator[Any], within: str = "") -> None:
    """Raise ``Invalid`` for the first of ``errors``, if there is one."""
    found = min(errors, key=lambda error: len(error.absolute_path), default=None)
    if found is None:
        return
    while found.context:  # of an anyOf, the branch that came furthest says most
        found = max(found.context, key=lambda error: len(error.absolute_path))
    field, sentence = _explain(found, within)
    raise Invalid(sentence, field=field)


def _explain(error: Any, within: str) -> tuple[str, str]:
    """Name the field and say what would be right."""
    parts = [within] if within else []
    path = ".".join(parts + [str(part) for part in error.absolute_path]) or "body"
    wanted, got, schema = error.validator_value, error.instance, error.schema
    hint = schema.get("description", "") if isinstance(schema, dict) else ""
    match error.validator:
        case "required":
            missing = next(name for name in wanted if name not in got)
            return _inside(path, missing), f"{_inside(path, missing)} is missing."
        case "additionalProperties" | "unevaluatedProperties":
            known = list(schema.get("properties", {}))
            unknown = next((name for name in got if name not in known), "")
            close = difflib.get_close_matches(unknown, known, n=1)
            instead = f"did you mean {close[0]}?" if close else f"known are {', '.join(known) or 'none'}."
            return _inside(path, unknown), f"{_shown(unknown)} is not a field here: {instead}"
        case "type":
            kinds = wanted if isinstance(wanted, list) else [wanted]
            right = " or ".join(_IN_WORDS.get(str(kind), str(kind)) for kind in kinds)
            return path, f"{path} must be {right}, not {_shown(got)}."
        case "enum":
            known = [str(value) for value in wanted]
            close = difflib.get_close_matches(str(got), known, n=1)
            return path, f"{path} must be one of {', '.join(known)}, not {_shown(got)}." + (
                f" Did you mean {close[0]}?" if close else ""
            )
        case "minimum":
            return path, f"{path} must be at least {wanted}, not {got}."
        case "exclusiveMinimum":
            return path, f"{path} must be more than {wanted}, not {got}."
        case "maximum":
            return path, f"{path} must be at most {wanted}, not {_shown(got)}."
        case "minLength" | "minItems":
            return path, f"{path} is too short: at least {wanted}." if got else f"{path} must not be empty."
        case "maxLength" | "maxItems":
            return path, f"{path} is too long: at most {wanted}, not {len(got)}."
        case "format":
            return path, f"{path} must be a time with its offset, such as 2026-03-02T14:00:00Z, not {_shown(got)}."
        case "oneOf" | "anyOf" | "not" | "pattern":
            return path, f"{path} is not right: {hint or 'see the API documentation'}"
    return path, f"{path} is not right: {hint or error.message[:200]}"


def _inside(path: str, name: str) -> str:
    return name if path == "body" else f"{path}.{name}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@lru_cache(maxsize=1)
def _formats() -> Any:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    checker.checks("date-time")(is_aware_time)
    return checker


def is_aware_time(value: object) -> bool:
    """The format ``date-time`` as the contract means it: with an offset, in a year that can be reckoned with."""
    if not isinstance(value, str):
        return True
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return False
    # Far from both ends of the calendar, where adding a duration or a zone's offset would fail.
    return "T" in value.upper() and at.tzinfo is not None and 1970 < at.year < 3000


def _keywords(schema: Any) -> set[str]:
    """The keywords of a schema and of those inside it."""
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    inside = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("not")]
    inside.append(schema.get("additionalProperties"))
    for name in ("oneOf", "anyOf", "allOf"):
        inside.extend(schema.get(name, ()))
    return found.union(*(_keywords(each) for each in inside))
