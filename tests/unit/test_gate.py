"""The gate: one cell at a time, in order, and what an error or a switch does to those that wait."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from computehub_ext.notebook.gate import Gate, Mode


@dataclass(frozen=True)
class Message:
    msg_id: str
    msg_type: str = "execute_request"
    subshell_id: str | None = None
    comm_id: str | None = None
    stops_on_error: bool = True


@pytest.fixture
def gate() -> Gate[Message]:
    return Gate()


def cells(*names: str) -> list[Message]:
    return [Message(name) for name in names]


def test_one_cell_at_a_time_and_in_order(gate: Gate[Message]) -> None:
    first, second, third = cells("1", "2", "3")
    assert gate.arrive(first)
    assert not gate.arrive(second)
    assert not gate.arrive(third)
    assert gate.release() == []
    gate.finished("1")
    assert gate.release() == [second]
    gate.finished("2")
    assert gate.release() == [third]
    assert gate.running is third


def test_other_requests_pass_while_nothing_waits_and_queue_behind_what_does(gate: Gate[Message]) -> None:
    running, waiting = cells("1", "2")
    info = Message("i", "kernel_info_request")
    assert gate.arrive(running)
    assert gate.arrive(info)
    assert not gate.arrive(waiting)
    late = Message("j", "complete_request")
    assert not gate.arrive(late), "a completion must see what the cells before it did"
    gate.finished("1")
    assert gate.release() == [waiting, late]


def test_widgets_reach_the_running_cell_past_the_waiting_ones(gate: Gate[Message]) -> None:
    gate.arrive(Message("1"))
    gate.arrive(Message("2"))
    assert gate.arrive(Message("c", "comm_msg", comm_id="known"))


def test_a_comm_that_waits_to_be_opened_keeps_its_messages_behind_it(gate: Gate[Message]) -> None:
    running, waiting = cells("1", "2")
    opening, told = Message("o", "comm_open", comm_id="new"), Message("m", "comm_msg", comm_id="new")
    gate.arrive(running)
    gate.arrive(waiting)
    assert not gate.arrive(opening)
    assert not gate.arrive(told)
    gate.finished("1")
    assert gate.release() == [waiting, opening, told]
    assert gate.arrive(Message("n", "comm_msg", comm_id="new")), "open now"


def test_subshells_do_not_wait_for_the_main_shell(gate: Gate[Message]) -> None:
    gate.arrive(Message("1"))
    gate.arrive(Message("2"))
    assert gate.arrive(Message("s", subshell_id="sub"))
    assert gate.running == Message("1")


def test_an_error_aborts_the_waiting_cells_and_nothing_else(gate: Gate[Message]) -> None:
    running, second, third = cells("1", "2", "3")
    question = Message("q", "inspect_request")
    for message in (running, second, question, third):
        gate.arrive(message)
    gate.failed("1")
    finished = gate.finished("1")
    assert finished is not None
    assert finished.aborted == [second, third]
    assert gate.release() == [question]


def test_a_cell_that_does_not_stop_on_error_aborts_nobody(gate: Gate[Message]) -> None:
    gate.arrive(Message("1", stops_on_error=False))
    gate.arrive(Message("2"))
    gate.failed("1")
    finished = gate.finished("1")
    assert finished is not None
    assert finished.aborted == []
    assert gate.release() == [Message("2")]


def test_the_end_of_another_request_changes_nothing(gate: Gate[Message]) -> None:
    gate.arrive(Message("1"))
    gate.arrive(Message("2"))
    gate.failed("x")
    assert gate.finished("x") is None
    assert gate.release() == []


def test_while_a_switch_waits_cells_wait_and_the_rest_passes(gate: Gate[Message]) -> None:
    gate.arrive(Message("1"))
    gate.mode = Mode.WAITING
    assert gate.arrive(Message("i", "complete_request"))
    assert gate.arrive(Message("c", "comm_msg", comm_id="known"))
    gate.finished("1")
    assert not gate.arrive(Message("2")), "no further cell starts on the kernel that is being left"
    assert gate.release() == []


def test_while_it_is_shut_everything_waits_and_comes_out_in_order(gate: Gate[Message]) -> None:
    gate.mode = Mode.SHUT
    messages = [
        Message("c", "comm_msg", comm_id="known"),
        Message("1"),
        Message("s", subshell_id="sub"),
        Message("i", "complete_request"),
        Message("2"),
    ]
    assert not any(gate.arrive(message) for message in messages)
    gate.mode = Mode.OPEN
    assert gate.release() == messages[:4]
    gate.finished("1")
    assert gate.release() == messages[4:]


def test_cells_can_be_taken_out_and_the_rest_keeps_waiting(gate: Gate[Message]) -> None:
    gate.mode = Mode.SHUT
    gate.arrive(Message("1"))
    gate.arrive(Message("i", "complete_request"))
    gate.arrive(Message("2"))
    assert gate.take_cells() == [Message("1"), Message("2")]
    gate.mode = Mode.OPEN
    assert gate.release() == [Message("i", "complete_request")]


def test_a_kernel_that_is_gone_leaves_no_cell_running(gate: Gate[Message]) -> None:
    gate.arrive(Message("1"))
    gate.arrive(Message("2"))
    gate.begun("1")
    assert gate.reset() == [Message("2")]
    assert gate.idle
    assert gate.arrive(Message("3"))
    assert gate.reset() == [Message("3")], "it was sent to a kernel that was dead already"
