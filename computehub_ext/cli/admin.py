"""The administrator's words. Who may read and write the database file is an administrator; nobody logs in here."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT, in_credits
from computehub_ext.core.errors import ComputeHubError, Invalid, NotFound

if TYPE_CHECKING:
    from computehub_ext.app import ComputeHub
    from computehub_ext.core.database import Database, Unit
    from computehub_ext.ledger.model import Balance

GRANT_CREDITS_MAX = 1_000_000
DATABASE_VARIABLE = "COMPUTEHUB_DATABASE_URL"
CONFIG_NAMES = ("jupyter_config", "jupyter_server_config", "jupyter_computehub_ext_config")


def run(given: argparse.Namespace) -> int:
    """Do one of the administrator's words; failures are a sentence on stderr."""
    try:
        return {"grant": grant, "verify": verify, "migrate": migrate}[given.word](given)
    except ComputeHubError as failure:
        sys.stderr.write(f"computehub {given.word}: {failure.message}\n")
        return 2 if isinstance(failure, Invalid) else 1


def grant(given: argparse.Namespace) -> int:
    """Give a person credits, of the origin ``granted``."""
    amount = microcredits(given.amount)
    from computehub_ext.core.clock import SystemClock
    from computehub_ext.ledger import service as ledger
    from computehub_ext.ledger.model import Origin
    from computehub_ext.people import service as people

    now, key = SystemClock().now(), f"grant-{uuid.uuid4().hex}"
    with existing_database(given.database) as database:

        def work(unit: Unit) -> tuple[str, Balance]:
            person = people.find_person(unit, given.username)
            if person is None:
                if not given.create:
                    raise NotFound(
                        f'Nobody called "{given.username}" was ever here. Check the spelling, or add --create to make '
                        "the account before they first log in.",
                        username=given.username,
                    )
                person = people.ensure_person(unit, username=given.username, display_name="", now=now)
            ledger.grant(
                unit,
                account_id=person.account_id,
                amount_microcredits=amount,
                origin=Origin.GRANTED,
                key=key,
                memo=given.reason or "Granted by the administrator",
                now=now,
            )
            return person.username, ledger.balance(unit, person.account_id)

        username, balance = database.write(work)
    available = in_credits(balance.available_microcredits)
    held = f", {in_credits(balance.held_microcredits)} more held" if balance.held_microcredits else ""
    sys.stdout.write(f"{username} has {available} credits available now{held}.\n")
    return 0


def verify(given: argparse.Namespace) -> int:
    """Recompute the books; exit status 1 when something does not agree."""
    from computehub_ext.ledger import service as ledger

    with existing_database(given.database) as database:
        problems = database.read(ledger.verify)
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    count = len(problems)
    sys.stdout.write(
        "The books agree.\n" if not count else f"{count} problem{'' if count == 1 else 's'} in the books.\n"
    )
    return 1 if problems else 0


def migrate(given: argparse.Namespace) -> int:
    """Bring the schema up to date, with no server running on it."""
    from computehub_ext.core.database import Database
    from computehub_ext.plane import PlaneLock

    url = database_url(given.database)
    file = sqlite_file(url)
    lock = PlaneLock(file.with_suffix(".lock"), file.with_suffix(".migrating")) if file is not None else None
    try:
        with Database(url) as database:
            before = database.revision()
            database.migrate()
            after = database.revision()
    finally:
        if lock is not None:
            lock.release()
    history = " already" if before == after else f", was at {before or 'nothing'}"
    sys.stdout.write(f"{shown(url)} is at {after}{history}.\n")
    return 0


def microcredits(text: str) -> int:
    """Read an amount of credits exactly.

    Raises
    ------
    Invalid
        For what is no number, not above zero, finer than a microcredit or absurdly much.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise Invalid(f"AMOUNT is a number of credits such as 50 or 2.5, not {text!r}.", field="amount") from None
    if not amount.is_finite() or amount <= 0:
        raise Invalid(f"AMOUNT is above zero, not {text}. A wrong grant is mended by a reversal.", field="amount")
    if amount > GRANT_CREDITS_MAX:
        raise Invalid(f"AMOUNT is at most {GRANT_CREDITS_MAX:,} credits at a time, not {text}.", field="amount")
    exact = amount * MICROCREDITS_PER_CREDIT
    if exact != exact.to_integral_value():
        raise Invalid(f"AMOUNT has at most six decimals, not {text}.", field="amount")
    return int(exact)


def database_url(given: str | None) -> str:
    """The database meant: as given, by COMPUTEHUB_DATABASE_URL, as Jupyter's settings say, or the default."""
    import os

    chosen = given or os.environ.get(DATABASE_VARIABLE)
    if chosen:
        return chosen if "://" in chosen else f"sqlite:///{Path(chosen).absolute()}"
    return str(configured().database_url)


def configured() -> ComputeHub:
    """The settings that a Jupyter server would start with."""
    from jupyter_core.application import JupyterApp

    from computehub_ext.app import ComputeHub

    settings = JupyterApp()
    settings.config_file_paths  # noqa: B018  found by the first look
    for name in CONFIG_NAMES:
        settings.config_file_name = name
        settings.load_config_file()
    return ComputeHub(config=settings.config)


@contextmanager
def existing_database(given: str | None) -> Iterator[Database]:
    """Open the database, which must be there already and up to date."""
    from computehub_ext.core.database import Database

    url = database_url(given)
    file = sqlite_file(url)
    if file is not None and not file.is_file():
        raise NotFound(
            f"There is no database at {file}. Start a Jupyter server with ComputeHub once, or name another with "
            "--database.",
            path=str(file),
        )
    with Database(url) as database:
        if database.revision() is None:
            raise NotFound(f"{shown(url)} is no database of ComputeHub; `computehub migrate` makes it one.")
        yield database


def sqlite_file(url: str) -> Path | None:
    scheme, _, path = url.partition(":///")
    return Path(path) if scheme == "sqlite" and path else None


def shown(url: str) -> str:
    """The database's address without its password."""
    file = sqlite_file(url)
    if file is not None:
        return str(file)
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)
