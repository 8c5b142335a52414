"""Write docs/reference/ from the code: `make docs`. With ``--check`` only say what is out of date.

Nothing here is known twice: words come from the magic's own table, settings from the traits, routes from openapi.yaml,
errors from the tree of classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FOLDER = ROOT / "docs" / "reference"
NOTE = "<!-- Made by `make docs` from the code. -->\n\n"
OF_THE_MACHINE = {"database_url", "state_dir"}
"""Settings whose default is another on each machine: their help says it in words."""


def magic() -> str:
    from computehub_ext.kernel import arguments

    lines = ["# `%gpu`", "", "In a cell `%gpu`, in a shell `computehub gpu`. `%gpu --help` prints:", ""]
    lines += ["```text", arguments.help_text(None), "```", ""]
    for word in arguments.WORDS:
        lines += [f"## `%gpu {word.name}`", "", "```text", arguments.help_text(word.name), "```", ""]
    return "\n".join(lines)


def shell(*words: str) -> str:
    """What the shell command prints, as somebody with a terminal of 100 columns sees it."""
    environment = {"COLUMNS": "100", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "computehub_ext.cli", *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=True,
    )
    return done.stdout.rstrip().replace(str(Path.home()), "~")


def cli() -> str:
    from computehub_ext.cli import parser

    actions = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    lines = ["# `computehub`", "", "```text", shell("--help"), "```", ""]
    for command in actions[0].choices:
        lines += [f"## `computehub {command}`", "", "```text", shell(command, "--help"), "```", ""]
    return "\n".join(lines)


def settings() -> str:
    from computehub_ext.app import ComputeHub

    lines = [
        "# Settings",
        "",
        "In `jupyter_server_config.py` as `c.ComputeHub.name = value`, or on the command line as",
        "`--ComputeHub.name=value`.",
        "",
    ]
    app = ComputeHub()
    for name, trait in sorted(ComputeHub.class_own_traits(config=True).items()):
        default = repr(app.trait_defaults(name))
        if name in OF_THE_MACHINE:
            assert "The default is" in trait.help, f"ComputeHub.{name} has to say what its default is"
            default = ""
        kind = type(trait).__name__
        if values := getattr(trait, "values", None):
            kind = "one of " + ", ".join(f"`{value}`" for value in values)
        lines += [f"## `ComputeHub.{name}`", ""]
        told = default not in ("", "''", "traitlets.Undefined")
        lines += [f"{kind}, default `{default}`." if told else f"{kind}.", ""]
        lines += [*textwrap.wrap(" ".join(trait.help.split()).replace("``", "`"), 116), ""]
    return "\n".join(lines)


def places() -> str:
    from computehub_ext.backends.docker.settings import DockerSettings, Mount
    from computehub_ext.backends.slurm.settings import SlurmSettings
    from computehub_ext.places import AnyPlace, ConfiguredPool

    lines = [
        "# Places and pools",
        "",
        "What `c.ComputeHub.places` and `c.ComputeHub.pools` take, each a dict or a list of dicts. A setting that is",
        "unknown, missing or of the wrong type is named when the server starts.",
        "",
    ]
    for title, cls in (
        ("A pool", ConfiguredPool),
        ("A place of any kind", AnyPlace),
        ('A place with `"kind": "docker"`', DockerSettings),
        ("One of a Docker place's mounts", Mount),
        ('A place with `"kind": "slurm"`', SlurmSettings),
    ):
        told = parameters(cls)
        lines += [f"## {title}", "", "| Setting | Default | What it is |", "| --- | --- | --- |"]
        lines += [f"| `{name}` | {default_of(cls, name)} | {told.get(name, '')} |" for name in cls.__dataclass_fields__]
        lines.append("")
    return "\n".join(lines)


def parameters(cls: type) -> dict[str, str]:
    """What a dataclass's docstring says of each of its fields."""
    told: dict[str, str] = {}
    names: list[str] = []
    _, _, section = inspect.getdoc(cls).partition("Parameters\n----------\n")
    for line in section.splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.rstrip(":").split(",")]
        for name in names if line.startswith(" ") else ():
            told[name] = f"{told.get(name, '')} {line.strip()}".strip()
    return {name: text.replace("``", "`").replace("|", "\\|") for name, text in told.items()}


def default_of(cls: type, name: str) -> str:
    field = cls.__dataclass_fields__[name]
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "must be set"
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    if isinstance(value, tuple) and len(value) > 4:
        return "a short list"
    value = list(value) if isinstance(value, tuple) else value
    return f"`{value!r}`".replace(repr(sys.executable), "'the Python of the control plane'")


def api() -> str:
    contract = yaml.safe_load((ROOT / "computehub_ext" / "api" / "openapi.yaml").read_text())
    lines = [
        "# API",
        "",
        "Under `{base_url}api/computehub/v1/`. `openapi.yaml` there is the contract, `docs` a page to",
    ]
    lines += ["browse and try it.", "", contract["info"]["description"].strip(), ""]
    for tag in contract["tags"]:
        lines += [f"## {tag['name'].capitalize()}", "", tag["description"], ""]
        lines += ["| Route | What it does | Body | Answers |", "| --- | --- | --- | --- |"]
        for path, verb, operation in operations(contract):
            if tag["name"] in operation.get("tags", []):
                body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
                answers = ", ".join(str(code) for code in operation["responses"] if code != "default")
                lines.append(
                    f"| `{verb.upper()} {path}` | {operation['summary']} | {fields(body, contract)} | {answers} |"
                )
        lines.append("")
    lines += ["## Shapes", ""]
    for name, schema in sorted(contract["components"]["schemas"].items()):
        if properties := schema.get("properties"):
            lines += [f"### {name}", ""]
            if schema.get("description"):
                lines += [" ".join(schema["description"].split()), ""]
            lines += ["| Field | Type | What it is |", "| --- | --- | --- |"]
            for field, shape in properties.items():
                text = " ".join(str(shape.get("description", "")).split()).replace("|", "\\|")
                lines.append(f"| `{field}` | {kind_of(shape, contract)} | {text} |")
            lines.append("")
    return "\n".join(lines)


def operations(contract: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in contract["paths"].items():
        for verb, operation in item.items():
            if verb in {"get", "put", "post", "patch", "delete"}:
                yield path, verb, operation


def fields(schema: dict[str, Any], contract: dict[str, Any]) -> str:
    if "$ref" in schema:
        schema = contract["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    required = set(schema.get("required", []))
    return ", ".join(f"`{name}`" + ("" if name in required else "?") for name in schema.get("properties", {}))


def kind_of(shape: dict[str, Any], contract: dict[str, Any] | None = None) -> str:
    """A schema in a word or two; one with fields of its own is a link to them."""
    if "$ref" in shape:
        name = shape["$ref"].rsplit("/", 1)[1]
        found = contract["components"]["schemas"][name] if contract else {}
        return f"[{name}](#{name.lower()})" if "properties" in found else kind_of(found, contract)
    for key in ("oneOf", "anyOf", "allOf"):
        if key in shape:
            return " or ".join(kind_of(each, contract) for each in shape[key])
    if "enum" in shape:
        return " · ".join(f"`{value}`" for value in shape["enum"])
    if "const" in shape:
        return f"`{shape['const']}`"
    kind = shape.get("type", "any")
    if kind == "array":
        return f"list of {kind_of(shape.get('items', {}), contract)}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def events() -> str:
    lines = [
        "# Events",
        "",
        "On Jupyter's event bus, after the change was committed. An event is a hint to fetch again:",
    ]
    lines += ["the bus reaches every user, so it carries no amounts and is never evidence.", ""]
    for path in sorted((ROOT / "computehub_ext").rglob("event_schemas/*/*.yaml")):
        schema = yaml.safe_load(path.read_text())
        lines += [f"## {schema['title']}", "", f"`{schema['$id']}`", "", schema.get("description", "").strip(), ""]
        lines += ["| Field | Type | What it is |", "| --- | --- | --- |"]
        for name, shape in schema.get("properties", {}).items():
            lines.append(f"| `{name}` | {kind_of(shape)} | {' '.join(str(shape.get('description', '')).split())} |")
        lines.append("")
    return "\n".join(lines)


def errors() -> str:
    from computehub_ext.core import errors as module

    def below(family: type[module.ComputeHubError], depth: int) -> Iterator[tuple[int, type[module.ComputeHubError]]]:
        for child in sorted(family.__subclasses__(), key=lambda found: inspect.getsourcelines(found)[1]):
            if child.__module__ == module.__name__:
                yield depth, child
                yield from below(child, depth + 1)

    tree = (module.__doc__ or "").split("\n\n")[1]
    what = dict(re.findall(r"── (\w+)[ ]*(?:\d{3})?[ ]*(.*)", tree))
    lines = [
        "# Errors",
        "",
        "Every expected failure is `{message, code, details}`: a sentence for a person, a stable word",
    ]
    lines += ["for a program, and what a program can act on. Anything else is a 500 with a request id.", ""]
    lines += ["| Code | Status | Name | When |", "| --- | --- | --- | --- |"]
    for depth, found in below(module.ComputeHubError, 0):
        name = "&nbsp;" * 4 * depth + found.__name__
        lines.append(f"| `{found.code}` | {found.status} | {name} | {what.get(found.__name__, '').strip()} |")
    return "\n".join([*lines, ""])


PAGES: dict[str, Callable[[], str]] = {
    "magic": magic,
    "cli": cli,
    "settings": settings,
    "places": places,
    "api": api,
    "events": events,
    "errors": errors,
}


def page(name: str) -> str:
    text = PAGES[name]()
    title, _, rest = text.partition("\n")
    body = "\n".join(line.rstrip() for line in rest.strip().splitlines())
    return f"{title}\n\n{NOTE}{body}\n"


def main() -> int:
    stale = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        path = FOLDER / f"{name}.md"
        text = page(name)
        if not path.is_file() or path.read_text() != text:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale:
        print(("out of date, run `make docs`: " if "--check" in sys.argv else "written: ") + ", ".join(stale))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
