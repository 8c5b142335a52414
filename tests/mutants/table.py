"""The guards whose removal a test must notice. Add a row with each new one.

``old`` stands exactly once in the file; ``new`` is the same without the guard. A row goes out of date loudly: a quick
test of every `make test` looks for each text and each test.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    """What goes wrong without the guard."""
    file: str
    old: str
    new: str
    test: str


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="a draw that comes again is charged again",
        file="computehub_ext/ledger/service.py",
        old=("    hold, known, by_origin = _hold_and_key(unit, hold_id, key, digest)\n    if known:\n"),
        new=("    hold, known, by_origin = _hold_and_key(unit, hold_id, key, digest)\n    if False:\n"),
        test="tests/integration/test_ledger_races.py::test_the_same_draw_twice_at_once_is_charged_once",
    ),
    Mutant(
        name="a key that comes with another input gets the first answer",
        file="computehub_ext/ledger/service.py",
        old="    if known is not None and known.input_hash != digest:\n",
        new="    if False:\n",
        test="tests/unit/test_ledger_rules.py::test_the_same_key_with_another_input_is_refused",
    ),
    Mutant(
        name="an entry is reversed twice",
        file="computehub_ext/ledger/service.py",
        old="    if store.is_reversed(unit, entry_id):\n",
        new="    if False:\n",
        test="tests/integration/test_ledger_tables.py::test_the_books_follow_the_table",
    ),
    Mutant(
        name="more is held than is available",
        file="computehub_ext/ledger/store.py",
        old="        >= accounts.c.floor_microcredits,\n",
        new="        >= -(10**18),\n",
        test="tests/unit/test_ledger_rules.py::test_a_refusal_says_what_is_available_and_what_was_needed",
    ),
    Mutant(
        name="the database takes a balance below its floor",
        file="computehub_ext/ledger/tables.py",
        old='"floor_microcredits IS NULL OR posted_microcredits - held_microcredits >= floor_microcredits"',
        new='"1 = 1"',
        test="tests/integration/test_ledger_races.py::test_the_database_itself_refuses_what_no_code_should_write",
    ),
    Mutant(
        name="the database takes a hold drawn beyond its amount",
        file="computehub_ext/ledger/tables.py",
        old='CheckConstraint("drawn_microcredits >= 0 AND drawn_microcredits <= amount_microcredits", name="drawn")',
        new='CheckConstraint("1 = 1", name="drawn")',
        test="tests/integration/test_ledger_races.py::test_the_database_itself_refuses_what_no_code_should_write",
    ),
    Mutant(
        name="a hold is settled twice",
        file="computehub_ext/ledger/model.py",
        old=("        self._check_open()\n        return replace(self, state=HoldState.CLOSED, closed_at=at)\n"),
        new="        return replace(self, state=HoldState.CLOSED, closed_at=at)\n",
        test="tests/integration/test_ledger_races.py::test_twenty_threads_draw_no_more_than_was_held_and_close_once",
    ),
    Mutant(
        name="more is drawn than was held",
        file="computehub_ext/ledger/model.py",
        old="        if amount_microcredits > self.held_microcredits:\n",
        new="        if False:\n",
        test="tests/integration/test_ledger_races.py::test_twenty_threads_draw_no_more_than_was_held_and_close_once",
    ),
    Mutant(
        name="the audit trusts the stored sums",
        file="computehub_ext/ledger/audit.py",
        old="        if account.posted_microcredits != posted[account.id]:\n",
        new="        if False:\n",
        test="tests/unit/test_ledger_rules.py::test_the_audit_names_what_was_changed_behind_its_back",
    ),
    Mutant(
        name="a refused request leaves its half behind",
        file="computehub_ext/core/writer.py",
        old='            driver.execute("ROLLBACK TO request")\n',
        new="            pass\n",
        test="tests/integration/test_database.py::test_many_threads_write_and_only_the_failing_ones_fail[file]",
    ),
    Mutant(
        name="a refused request leaves its change in memory",
        file="computehub_ext/core/writer.py",
        old=("            request.error = error\n            unit.rolled_back()\n"),
        new="            request.error = error\n",
        test="tests/integration/test_database.py::test_a_failing_write_leaves_nothing_and_runs_its_undos_newest_first[file]",
    ),
    Mutant(
        name="a lost commit is reported as stored",
        file="computehub_ext/core/writer.py",
        old=("            failed = True\n            self._lost(served or [first], error)\n"),
        new=("            failed = True\n            for request in served:\n                request.done.release()\n"),
        test="tests/integration/test_database.py::test_a_lost_commit_undoes_every_request_of_its_group",
    ),
    Mutant(
        name="an acknowledged write is not on the disk",
        file="computehub_ext/core/database.py",
        old="PRAGMA synchronous = FULL",
        new="PRAGMA synchronous = NORMAL",
        test="tests/integration/test_database.py::test_a_file_is_written_with_full_durability",
    ),
    Mutant(
        name="two writers act on what neither has written",
        file="computehub_ext/core/database.py",
        old='isolation_level="SERIALIZABLE"',
        new='isolation_level="READ COMMITTED"',
        test="tests/integration/test_database.py::test_two_that_looked_before_either_wrote_do_not_both_act_on_it",
    ),
    Mutant(
        name="a kernel spends more than its owner's allowance",
        file="computehub_ext/people/service.py",
        old="    if approval_id is None and amount_microcredits > left:\n",
        new="    if False:\n",
        test="tests/unit/test_people.py::test_an_allowance_rolls_over_24_hours",
    ),
    Mutant(
        name="an approval is decided by somebody else",
        file="computehub_ext/people/service.py",
        old="    if found is None or found.person_id != person_id:\n",
        new="    if found is None:\n",
        test="tests/unit/test_people.py::test_nobody_else_decides_or_uses_it",
    ),
    Mutant(
        name="an approval given to one notebook is used by another",
        file="computehub_ext/people/model.py",
        old="        if kernel_id != self.kernel_id:\n",
        new="        if False:\n",
        test="tests/unit/test_people.py::test_an_approval_is_for_one_notebook_and_no_more_than_was_shown",
    ),
    Mutant(
        name="an approval is used after it expired",
        file="computehub_ext/people/model.py",
        old="        if self.state in (ApprovalState.PENDING, ApprovalState.APPROVED) and now >= self.expires_at:\n",
        new="        if False:\n",
        test="tests/unit/test_people.py::test_a_request_expires_answered_or_not",
    ),
    Mutant(
        name="two are booked into one slot",
        file="computehub_ext/bookings/calendar.py",
        old="            if not fits():\n",
        new="            if False:\n",
        test="tests/integration/test_bookings_races.py::test_two_want_the_last_slot[0-file]",
    ),
    Mutant(
        name="what a failed transaction took stays taken",
        file="computehub_ext/bookings/service.py",
        old="    unit.on_rollback(undo)\n",
        new="",
        test="tests/unit/test_bookings.py::test_too_dear_takes_nothing",
    ),
    Mutant(
        name="a slot is promised to another before its cancellation is stored",
        file="computehub_ext/bookings/service.py",
        old="    unit.after_commit(lambda: index.release(span, booking.count))\n",
        new="    index.release(span, booking.count)\n",
        test="tests/unit/test_bookings.py::test_a_cancellation_that_fails_gives_nothing_back",
    ),
    Mutant(
        name="somebody else cancels a booking",
        file="computehub_ext/bookings/service.py",
        old=" or (person_id is not None and booking.person_id != person_id)",
        new="",
        test="tests/unit/test_bookings.py::test_anothers_booking_looks_like_none",
    ),
    Mutant(
        name="a booking's key that comes with another input gets the first answer",
        file="computehub_ext/bookings/service.py",
        old="        if earlier[1] != input_hash:\n",
        new="        if False:\n",
        test="tests/unit/test_bookings.py::test_the_same_request_again_is_the_same_booking",
    ),
    Mutant(
        name="time that was kept free is not paid for",
        file="computehub_ext/bookings/service.py",
        old="booking.cancel(now), charged=booking.held_cost(now), now=now)",
        new="booking.cancel(now), charged=0, now=now)",
        test="tests/unit/test_bookings.py::test_a_day_of_bookings",
    ),
    Mutant(
        name="a booking that is over keeps its hold",
        file="computehub_ext/bookings/service.py",
        old="    ledger.close_hold(unit, hold_id=booking.hold_id, now=now)\n",
        new="",
        test="tests/unit/test_bookings.py::test_a_day_of_bookings",
    ),
    Mutant(
        name="a booking starts in the past",
        file="computehub_ext/bookings/model.py",
        old="        if start_at < now:\n",
        new="        if False:\n",
        test="tests/unit/test_bookings.py::test_nonsense_is_named[wish0-starts_at]",
    ),
    Mutant(
        name="a local time that does not exist is booked",
        file="computehub_ext/bookings/when.py",
        old="    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:\n",
        new="    if False:\n",
        test="tests/unit/test_when.py::test_a_time_that_the_clocks_skip",
    ),
    Mutant(
        name="a kernel runs on unpaid",
        file="computehub_ext/kernel/supervisor.py",
        old="        return time.time() >= self.paid_until or time",
        new="        return time",
        test="tests/integration/test_supervisor.py::test_unpaid_time_ends_the_kernel_and_a_detached_grandchild[0]",
    ),
    Mutant(
        name="a kernel runs on though nobody can tell whether it is paid for",
        file="computehub_ext/kernel/supervisor.py",
        old=" or time.monotonic() - self.read_at > UNREADABLE_SECONDS_MAX\n",
        new="\n",
        test="tests/integration/test_supervisor.py::test_a_supervisor_that_cannot_read_the_promise_for_long_ends_the_kernel",
    ),
    Mutant(
        name="a kernel outlives its supervisor",
        file="computehub_ext/kernel/supervisor.py",
        old="            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)\n",
        new="",
        test="tests/integration/test_supervisor.py::test_killing_the_supervisor_ends_the_kernel_and_what_it_started",
    ),
    Mutant(
        name="what a kernel started detached runs on unpaid",
        file="computehub_ext/kernel/supervisor.py",
        old="        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)\n",
        new="",
        test="tests/integration/test_supervisor.py::test_killing_the_kernel_ends_what_it_started",
    ),
    Mutant(
        name="a kernel holds the server's port",
        file="computehub_ext/kernel/supervisor.py",
        old="            _close(descriptor)  # such",
        new="            pass  # such",
        test="tests/integration/test_supervisor.py::test_a_kernel_holds_no_port_and_no_lock_of_the_server",
    ),
    Mutant(
        name="anybody takes a standby kernel over",
        file="computehub_ext/kernel/standby.py",
        old="        if not hmac.compare_digest(",
        new="        if False and not hmac.compare_digest(",
        test="tests/integration/test_standby.py::test_a_wrong_secret_is_refused_and_too_many_end_it",
    ),
    Mutant(
        name="a kernel sees the server's secrets",
        file="computehub_ext/backends/local/environment.py",
        old=" and not _SECRET.search(name)\n",
        new="\n",
        test="tests/contract/test_local_backend.py::TestLocalBackend::test_the_environment_is_clean",
    ),
    Mutant(
        name="a later process with the same pid is killed",
        file="computehub_ext/backends/local/processes.py",
        old="        if start_time(pid) != started:\n            return False\n",
        new="",
        test="tests/integration/test_supervisor.py::test_a_later_process_with_the_same_pid_is_not_signalled",
    ),
    Mutant(
        name="a start that comes after its stop starts an orphan",
        file="computehub_ext/backends/local/backend.py",
        old="                if made is not None:\n                    directory.end(Ending.STOPPED, None)\n",
        new="                if made is not None:\n                    directory.remove()\n",
        test="tests/contract/test_local_backend.py::TestLocalBackend::test_a_start_that_comes_after_its_stop_is_refused",
    ),
    Mutant(
        name="a kernel whose record is gone is not found",
        file="computehub_ext/backends/local/backend.py",
        old="        for label in sorted(lost):\n",
        new="        for label in ():\n",
        test="tests/integration/test_supervisor.py::test_a_placement_whose_record_is_gone_is_found_by_its_label_and_stopped",
    ),
)
