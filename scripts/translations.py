"""Collect the panel's sentences, keep the catalogues up to them, and write what JupyterLab reads.

``make translations`` after a change of words: what is new stands in the ``.po`` file with an empty translation, and
what is gone leaves it. Fill it in, and run it again. ``--check`` changes nothing and says what is missing.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po
from jupyterlab_server.translation_utils import DEFAULT_SCHEMA_SELECTORS

ROOT = Path(__file__).resolve().parent.parent
PANEL = ROOT / "labextension"
LOCALES = ROOT / "computehub_ext" / "locale"
DOMAIN = "computehub"
LINE_LENGTH = 120

# A call of the translator, with its literal arguments: the rules of the front end ask for literals in double quotes.
_TEXT = r'"(?:[^"\\\n]|\\.)*"'
_CALL = re.compile(r"\btrans\s*\.\s*(?P<how>__|_n|_p|_np)\(\s*(?P<texts>" + _TEXT + r"(?:\s*,\s*" + _TEXT + r")*)?")
_TAKES = {"__": 1, "_n": 2, "_p": 2, "_np": 3}
_PLACEHOLDER = re.compile(r"%\d+")


def sentences() -> Catalog:
    """Everything that the panel says, as it stands in its source and its schemas."""
    catalog = Catalog(project="ComputeHub", charset="utf-8")
    for path in sorted((PANEL / "src").rglob("*.ts*")):
        if "__tests__" not in path.parts:
            for context, text in _in_source(path):
                catalog.add(text, context=context, locations=[(path.relative_to(ROOT).as_posix(), 0)])
    for path in sorted((PANEL / "schema").glob("*.json")):
        for context, text in _in_schema(json.loads(path.read_text())):
            catalog.add(text, context=context, locations=[(path.relative_to(ROOT).as_posix(), 0)])
    return catalog


def _in_source(path: Path) -> Iterator[tuple[str | None, str | tuple[str, str]]]:
    source = path.read_text()
    for call in _CALL.finditer(source):
        how = call["how"]
        texts = [json.loads(text) for text in re.findall(_TEXT, call["texts"] or "")][: _TAKES[how]]
        if len(texts) < _TAKES[how]:
            line = source.count("\n", 0, call.start()) + 1
            raise SystemExit(f"{path.relative_to(ROOT)}:{line}: give trans.{how} its sentence in double quotes")
        context = texts.pop(0) if how in ("_p", "_np") else None
        yield context, (texts[0], texts[1]) if how in ("_n", "_np") else texts[0]


def _in_schema(schema: object, path: str = "") -> Iterator[tuple[str, str]]:
    """What JupyterLab's server translates in a schema, with the context that it looks under."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield from _in_schema(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from _in_schema(value, f"{path}[{number}]")
    elif isinstance(schema, str):
        for pattern, context in DEFAULT_SCHEMA_SELECTORS.items():
            if re.fullmatch("/" + pattern, path):
                yield context, schema
                break


def catalogue_of(locale: str) -> Path:
    return LOCALES / locale / "LC_MESSAGES" / f"{DOMAIN}.po"


def locales() -> list[str]:
    return sorted(path.name for path in LOCALES.iterdir() if catalogue_of(path.name).exists())


def read(locale: str) -> Catalog:
    return read_po(io.BytesIO(catalogue_of(locale).read_bytes()), locale=locale, domain=DOMAIN, abort_invalid=True)


def updated(catalog: Catalog, said: Catalog) -> Catalog:
    """The catalogue with what is said now, in that order. Nothing is guessed from what is alike."""
    fresh = Catalog(locale=catalog.locale, domain=DOMAIN, project="ComputeHub", charset="utf-8", fuzzy=False)
    fresh.header_comment = "# What the ComputeHub panel says. Written by `make translations`; fill in what is empty.\n#"
    for message in said:
        if message.id:
            known = catalog.get(message.id if isinstance(message.id, str) else message.id[0], message.context)
            string = known.string if known and isinstance(known.string, str) == isinstance(message.id, str) else None
            fresh.add(message.id, string, locations=message.locations, context=message.context)
    return fresh


def problems(catalog: Catalog, said: Catalog) -> list[str]:
    """What keeps a catalogue from being complete: sentences without a translation, and other placeholders in it."""
    found = []
    for message in said:
        if not message.id:
            continue
        ids = (message.id,) if isinstance(message.id, str) else tuple(message.id)
        known = catalog.get(ids[0], message.context)
        strings = () if known is None else _strings(known)
        if len(strings) != (1 if len(ids) == 1 else catalog.num_plurals) or not all(strings):
            found.append(f"not translated: {ids[0]!r}")
        elif _holders(strings[-1]) != _holders(ids[-1]):
            found.append(f"other placeholders: {ids[0]!r} -> {strings[-1]!r}")
    extra = {_key(message) for message in catalog if message.id} - {_key(message) for message in said if message.id}
    return found + [f"no longer said: {key[1]!r}" for key in sorted(extra, key=str)]


def _key(message: Message) -> tuple[str | None, str]:
    return message.context, message.id if isinstance(message.id, str) else message.id[0]


def _strings(message: Message) -> tuple[str, ...]:
    string = message.string or ()
    return (string,) if isinstance(string, str) else tuple(string)


def _holders(text: str) -> list[str]:
    return sorted(_PLACEHOLDER.findall(text))


def as_json(catalog: Catalog) -> str:
    """The catalogue as JupyterLab's front end reads it."""
    language = str(catalog.locale).replace("_", "-")
    head = {"domain": DOMAIN, "language": language, "plural_forms": catalog.plural_forms}
    data: dict[str, object] = {"": head}
    for message in catalog:
        if message.id:
            context, text = _key(message)
            strings = _strings(message)
            # What is not translated is left out, so that it is shown as it was written.
            if strings and all(strings):
                data[f"{context}\u0004{text}" if context else text] = list(strings)
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def as_po(catalog: Catalog) -> bytes:
    written = io.BytesIO()
    write_po(written, catalog, width=LINE_LENGTH, omit_header=False, include_lineno=False)
    # Dates and versions would change the file without a change of words.
    kept = rb"Language|Plural-Forms|MIME-Version|Content-Type|Content-Transfer-Encoding"
    return re.sub(rb'^"(?!(' + kept + rb"):)[A-Z][A-Za-z-]+: .*\\n\"\n", b"", written.getvalue(), flags=re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail where something is missing")
    options = parser.parse_args()
    said = sentences()
    complaints = []
    for locale in locales():
        catalog = read(locale)
        if not options.check:
            catalog = updated(catalog, said)
            catalogue_of(locale).write_bytes(as_po(catalog))
            catalogue_of(locale).with_suffix(".json").write_text(as_json(catalog), encoding="utf-8")
        elif as_json(catalog) != catalogue_of(locale).with_suffix(".json").read_text(encoding="utf-8"):
            complaints.append(f"{locale}: computehub.json is older than its .po file")
        complaints += [f"{locale}: {problem}" for problem in problems(catalog, said)]
    print("\n".join(complaints) or f"{len(said)} sentences, complete in {', '.join(locales())}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
