"""Run every benchmark, or those named; write results.json, docs/figures.md and the README's table.

``python -m benchmarks [--keep] [ledger switch ...]``. A run of some of them replaces only their rows.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import sys
import time
from datetime import UTC, datetime

import benchmarks
from benchmarks.figures import DOCUMENT, README, RESULTS, Figure, promised, save, table, write_into

ORDER = ["switch", "roundtrip", "ledger", "http", "availability", "startup", "panel", "panels", "state"]
ORDER += ["places_start", "places_roundtrip", "places_many"]
NOT_BENCHMARKS = {"figures", "__main__"}


def modules() -> list[str]:
    """Modules of this package that have a ``run``, in the README's order."""
    names = [found.name for found in pkgutil.iter_modules(benchmarks.__path__) if found.name not in NOT_BENCHMARKS]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return [name for name in names if hasattr(importlib.import_module(f"benchmarks.{name}"), "run")]


def facts() -> str:
    from computehub_ext.pools import nvml

    found = nvml.discover()
    devices = (
        f"{sum(spec.count for spec in found)} NVIDIA devices" if found else "simulated devices (no GPU on this machine)"
    )
    day = datetime.now(UTC).date().isoformat()
    return (
        f"Measured by `make bench` on {day} with {os.cpu_count()} cores, Python {platform.python_version()}, {devices}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join(modules())}")
    parser.add_argument("--keep", action="store_true", help="print only; change neither results.json nor the README")
    chosen = parser.parse_args()
    known = modules()
    if unknown := set(chosen.names) - set(known):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    figures: list[Figure] = []
    failed = []
    for name in [name for name in known if not chosen.names or name in chosen.names]:
        started = time.monotonic()
        print(f"bench: {name} ...", flush=True)
        try:
            found = [Figure.of(given) for given in importlib.import_module(f"benchmarks.{name}").run()]
        except Exception as error:
            # One that fails must not lose the figures of the others; the run as a whole fails at its end.
            failed.append(f"{name}: {type(error).__name__}: {error}")
            continue
        figures += found
        for figure in found:
            print("  " + figure.row(), flush=True)
        print(f"  took {time.monotonic() - started:.0f} s", flush=True)
    if not chosen.keep and figures:
        figures = merged(figures) if chosen.names or failed else figures
        save(figures)
        write_into(DOCUMENT, table(figures, facts()))
        write_into(README, promised(figures, facts()))
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    missed = [figure.name for figure in figures if figure.met is False]
    if missed:
        print(f"goals missed: {', '.join(missed)}")
    return 1 if failed else 0


def merged(new: list[Figure]) -> list[Figure]:
    """The new figures, in the place of older ones of the same name, whose number and size may have been others."""
    import json

    kept = [Figure.of(row) for row in json.loads(RESULTS.read_text())] if RESULTS.is_file() else []
    for name in dict.fromkeys(figure.name for figure in new):
        there = [position for position, figure in enumerate(kept) if figure.name == name]
        at = there[0] if there else len(kept)
        kept = [figure for figure in kept if figure.name != name]
        kept[at:at] = [figure for figure in new if figure.name == name]
    return kept


if __name__ == "__main__":
    sys.exit(main())
