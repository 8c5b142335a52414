"""The books, as tables of steps, on every database that we promise."""

from __future__ import annotations

import pytest

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from tests.support.books import Books
from tests.support.databases import EVERY_DATABASE

TABLES = {
    "a hold is drawn in parts and its rest released": """
        step                  | posted  | held   | available | refusal
        grant 10              | 10      | 0      | 10        |
        hold a 4              | 10      | 4      | 6         |
        draw a 1.5            | 8.5     | 2.5    | 6         |
        draw a 0.000001       | 8.499999| 2.499999 | 6       |
        draw a 2.5            | 8.499999| 2.499999 | 6       | invalid
        close a               | 8.499999| 0      | 8.499999  |
        close a               | 8.499999| 0      | 8.499999  | illegal_move
        draw a 0.1            | 8.499999| 0      | 8.499999  | illegal_move
        resize a 5            | 8.499999| 0      | 8.499999  | illegal_move
    """,
    "nothing is held that is not there": """
        step                  | posted  | held   | available | refusal
        hold a 0.000001       | 0       | 0      | 0         | insufficient_credits
        hold a 0              | 0       | 0      | 0         | insufficient_credits
        grant 3               | 3       | 0      | 3         |
        hold a 3.000001       | 3       | 0      | 3         | insufficient_credits
        hold a 2              | 3       | 2      | 1         |
        hold b 1.000001       | 3       | 2      | 1         | insufficient_credits
        hold b 1              | 3       | 3      | 0         |
        hold c 0              | 3       | 3      | 0         |
        draw c 0.000001       | 3       | 3      | 0         | invalid
    """,
    "a hold grows and shrinks, never below what is used": """
        step                  | posted  | held   | available | refusal
        grant 5               | 5       | 0      | 5         |
        hold a 2              | 5       | 2      | 3         |
        resize a 5            | 5       | 5      | 0         |
        resize a 5.000001     | 5       | 5      | 0         | insufficient_credits
        draw a 3              | 2       | 2      | 0         |
        resize a 2.999999     | 2       | 2      | 0         | invalid
        resize a 3            | 2       | 0      | 2         |
        resize a 4            | 2       | 1      | 1         |
        close a               | 2       | 0      | 2         |
    """,
    "a mistake is mended by a reversal, once": """
        step                  | posted  | held   | available | refusal
        grant 5               | 5       | 0      | 5         |
        hold a 4              | 5       | 4      | 1         |
        draw a 3              | 2       | 1      | 1         |
        reverse 3             | 5       | 1      | 4         |
        reverse 3             | 5       | 1      | 4         | illegal_move
        reverse 4             | 5       | 1      | 4         | illegal_move
        draw a 2              | 5       | 1      | 4         | invalid
        close a               | 5       | 0      | 5         |
        reverse 1             | 0       | 0      | 0         |
    """,
    "a grant that is spent can't be taken back": """
        step                  | posted  | held   | available | refusal
        grant 5               | 5       | 0      | 5         |
        hold a 1              | 5       | 1      | 4         |
        reverse 1             | 5       | 1      | 4         | insufficient_credits
        grant 1 purchased     | 6       | 1      | 5         |
        reverse 1             | 1       | 1      | 0         |
        draw a 1              | 0       | 0      | 0         |
    """,
    "a key that comes again changes nothing": """
        step                  | posted  | held   | available | refusal
        grant 10              | 10      | 0      | 10        |
        again 1               | 10      | 0      | 10        |
        hold a 4              | 10      | 4      | 6         |
        again 3               | 10      | 4      | 6         |
        resize a 6            | 10      | 6      | 4         |
        draw a 1              | 9       | 5      | 4         |
        again 6               | 9       | 5      | 4         |
        again 5               | 9       | 5      | 4         |
        again 3               | 9       | 5      | 4         |
        reverse 6             | 10      | 5      | 5         |
        again 10              | 10      | 5      | 5         |
        close a               | 10      | 0      | 10        |
        again 3               | 10      | 0      | 10        |
        again 6               | 10      | 0      | 10        |
    """,
}


@EVERY_DATABASE
@pytest.mark.parametrize("title", TABLES)
def test_the_books_follow_the_table(title: str, database: Database, clock: ManualClock) -> None:
    Books(database, clock).follow(TABLES[title])
