"""``computehub grant``, ``verify`` and ``migrate`` on a real database file."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy

from computehub_ext.cli import main
from computehub_ext.core.clock import SystemClock
from computehub_ext.core.database import Database
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.plane import PlaneLock

M = 1_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with Ada, who has her welcome grant of 10 credits."""
    file = tmp_path / "computehub.sqlite"
    with Database(f"sqlite:///{file}") as database:
        database.migrate()
        now = SystemClock().now()
        database.write(lambda unit: people.ensure_person(unit, username="ada", display_name="Ada", now=now))
    return file


def balance(file: Path, username: str = "ada") -> int:
    with Database(f"sqlite:///{file}") as database:

        def read(unit):  # type: ignore[no-untyped-def]
            person = people.find_person(unit, username)
            assert person is not None
            return ledger.balance(unit, person.account_id).available_microcredits

        amount: int = database.read(read)
        return amount


def test_grant_prints_the_new_balance(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grant", "ada", "50", "--database", str(file), "--reason", "Course GPU-101"]) == 0
    assert capsys.readouterr().out == "ada has 60.00 credits available now.\n"
    with Database(f"sqlite:///{file}") as database:
        person = database.read(lambda unit: people.find_person(unit, "ada"))
        assert person is not None
        lines = database.read(lambda unit: ledger.statement(unit, person.account_id, before=None, limit=5))
    assert (lines[0].amount_microcredits, lines[0].memo, str(lines[0].origin)) == (50 * M, "Course GPU-101", "granted")


@pytest.mark.parametrize(("amount", "exact"), [("0.1", 100_000), ("0.000001", 1), ("2.5", 2_500_000), ("1e2", 100 * M)])
def test_amounts_are_exact(file: Path, amount: str, exact: int) -> None:
    assert main(["grant", "ada", amount, "--database", str(file)]) == 0
    assert balance(file) == 10 * M + exact


@pytest.mark.parametrize("amount", ["0", "-5", "nan", "inf", "-inf", "ten", "", "1.2345678", "1e30", "0x10"])
def test_nonsense_is_refused(file: Path, capsys: pytest.CaptureFixture[str], amount: str) -> None:
    assert main(["grant", "--database", str(file), "ada", "--", amount]) == 2
    assert capsys.readouterr().err.startswith("computehub grant: AMOUNT ")
    assert balance(file) == 10 * M


def test_somebody_who_was_never_here_is_not_made_by_a_slip(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grant", "adda", "5", "--database", str(file)]) == 1
    assert 'Nobody called "adda" was ever here' in capsys.readouterr().err
    assert main(["grant", "grace", "5", "--create", "--database", str(file)]) == 0
    assert balance(file, "grace") == 15 * M  # the welcome grant comes with the account
    assert main(["grant", "grace", "5", "--create", "--database", str(file)]) == 0
    assert balance(file, "grace") == 20 * M


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none.sqlite"
    for words in (["grant", "ada", "5"], ["verify"]):
        assert main([*words, "--database", str(missing)]) == 1
        assert "There is no database at" in capsys.readouterr().err
    assert not missing.exists()


def test_a_file_that_is_no_database_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.sqlite"
    other.touch()
    assert main(["verify", "--database", f"sqlite:///{other}"]) == 1
    assert "`computehub migrate` makes it one" in capsys.readouterr().err


def test_verify_finds_a_balance_that_was_tampered_with(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--database", str(file)]) == 0
    assert capsys.readouterr().out == "The books agree.\n"
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        changed = connection.exec_driver_sql(
            "UPDATE accounts SET posted_microcredits = posted_microcredits + 1 WHERE id LIKE 'person:%'"
        )
        assert changed.rowcount == 1
    engine.dispose()
    assert main(["verify", "--database", str(file)]) == 1
    assert "in the books." in capsys.readouterr().out


def test_migrate_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new.sqlite"
    assert main(["migrate", "--database", str(new)]) == 0
    assert "was at nothing" in capsys.readouterr().out
    assert main(["migrate", "--database", str(new)]) == 0
    assert "already" in capsys.readouterr().out


def test_migrate_waits_for_no_server(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = PlaneLock(file.with_suffix(".lock"), file.with_suffix(".sock"))
    try:
        assert main(["migrate", "--database", str(file)]) == 1
    finally:
        lock.release()
    assert "Another server runs the control plane" in capsys.readouterr().err


def test_the_database_is_found_through_jupyters_settings(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "jupyter_server_config.py").write_text(f"c.ComputeHub.database_url = 'sqlite:///{file}'\n")
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(config))
    monkeypatch.delenv("COMPUTEHUB_DATABASE_URL", raising=False)
    assert main(["grant", "ada", "1"]) == 0
    assert "11.00 credits" in capsys.readouterr().out
    monkeypatch.setenv("COMPUTEHUB_DATABASE_URL", f"sqlite:///{tmp_path / 'none.sqlite'}")
    assert main(["grant", "ada", "1"]) == 1
