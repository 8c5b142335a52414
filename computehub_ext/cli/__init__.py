"""The shell command ``computehub``: the words of ``%gpu``, the administrator's tasks and the demo.

What a word needs is imported when that word is used, so that ``computehub --help`` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

DESCRIPTION = "GPUs for Jupyter notebooks, booked and paid by the second in credits."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 done, 1 refused, 2 wrong words, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["gpu"]:  # has words of its own, which know better than argparse what would be right
            from computehub_ext.cli.gpu import run_gpu

            return run_gpu(arguments[1:])
        given = parser().parse_args(arguments)
        if given.word is None:
            parser().print_help()
            return 2
        return _run(given)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `computehub gpu history | head`
        sys.stderr.close()
        return 1


def _run(given: argparse.Namespace) -> int:
    if given.word == "demo":
        from computehub_ext.demo import launch

        choices = launch.Choices(given.port, not given.no_browser, given.folder, given.config)
        return launch.run(choices)
    if given.word == "image":
        from computehub_ext.cli import image

        return image.run(given)
    from computehub_ext.cli import admin

    return admin.run(given)


def parser() -> argparse.ArgumentParser:
    """The words that are not ``gpu``'s."""
    whole = argparse.ArgumentParser(prog="computehub", description=DESCRIPTION)
    words = whole.add_subparsers(dest="word", metavar="WORD")
    words.add_parser("gpu", help="what %%gpu does in a notebook, for one that is open: `computehub gpu --help`")
    demo = words.add_parser("demo", help="open JupyterLab on a tour, with two people; Ctrl-C ends all of it")
    demo.add_argument("--port", type=int, help="the port to serve at (8888, or the next that is free)")
    demo.add_argument("--no-browser", action="store_true", help="open no browser (also: NO_BROWSER=1)")
    demo.add_argument("--folder", default=".demo", help="where the demo keeps notebooks and accounts (%(default)s)")
    demo.add_argument("--config", metavar="FILE", help="places and pools, such as those of docs/examples/docker.py")
    grant = words.add_parser("grant", help="give a person credits")
    grant.add_argument("username", metavar="USER")
    grant.add_argument("amount", metavar="AMOUNT", help="credits, such as 50 or 2.5")
    grant.add_argument("--reason", help="stands in the person's history")
    grant.add_argument("--create", action="store_true", help="make an account for a person who was never here")
    verify = words.add_parser("verify", help="check the books: every entry balanced, every balance as its postings say")
    migrate = words.add_parser("migrate", help="bring the database up to date; stop the server first")
    for each in (grant, verify, migrate):
        each.add_argument("--database", help="its URL; when left out, as Jupyter's settings say")
    from computehub_ext.cli import image

    image.add_words(words)
    return whole
