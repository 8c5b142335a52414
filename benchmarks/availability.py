"""What is free in each hour of a month, beside PostgreSQL with a range index (GiST) asked the same.

Both hold the same bookings of one pool and must give the same 744 numbers, which is checked. Ours is the in-memory
index, asked as the service asks it. The yardstick is a prepared query on a table of ``tstzrange`` with a GiST index,
analysed, all of it in memory, over a Unix socket. How many devices are free in an hour is the pool's size less the most
that overlap at any moment of it; that number rises only where the hour or a booking begins. ``SWEEP`` sums up all
beginnings and ends of the month in order (where all rows are wanted the planner may leave the index alone), ``PROBE``
counts at each beginning by the index. The faster of the two is taken, and its median is set beside our 99th percentile.

The growth from 1,000 to 100,000 bookings is in the rows' sizes.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg

from benchmarks.figures import Figure
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.service import availability
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.pools.model import Pool
from computehub_ext.testing.postgres import postgres_cluster

MONTH = TimeSpan(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
HOUR = timedelta(hours=1)
SIZES = (1_000, 10_000, 100_000)
ASKED = 2_000
ASKED_OF_POSTGRES = 15
SEED = 20260301

# All beginnings and ends within the month in order, with the number in use after each; what an hour begins with is the
# number after the last one before it.
SWEEP = """
WITH found AS (
    SELECT greatest(lower(span), %(start)s) AS start_at, upper(span) AS end_at, count
    FROM bookings WHERE span && tstzrange(%(start)s, %(end)s)
), changes AS (
    SELECT at, sum(change) AS change FROM (
        SELECT start_at AS at, count AS change FROM found
        UNION ALL SELECT end_at, -count FROM found WHERE end_at < %(end)s
        UNION ALL SELECT generate_series(%(start)s, %(end)s - interval '1 hour', interval '1 hour'), 0
    ) AS each GROUP BY at
), levels AS (
    SELECT at, sum(change) OVER (ORDER BY at) AS used FROM changes
)
SELECT greatest(0, %(capacity)s - max(used))::int FROM levels
GROUP BY date_bin(interval '1 hour', at, %(start)s) ORDER BY date_bin(interval '1 hour', at, %(start)s)
"""

# For each hour the bookings that overlap it, and at each of their beginnings the number in use, all by the index.
PROBE = """
SELECT greatest(0, %(capacity)s - max(used))::int
FROM generate_series(%(start)s, %(end)s - interval '1 hour', interval '1 hour') AS hour
CROSS JOIN LATERAL (
    SELECT hour AS moment
    UNION
    SELECT lower(span) FROM bookings
    WHERE span && tstzrange(hour, hour + interval '1 hour') AND lower(span) > hour
) AS moments
CROSS JOIN LATERAL (SELECT coalesce(sum(count), 0) AS used FROM bookings WHERE span @> moment) AS counted
GROUP BY hour ORDER BY hour
"""


def bookings(number: int) -> tuple[int, list[tuple[TimeSpan, int]]]:
    """Bookings of the month, to the second and up to 8 hours long, and a pool that is about as large as they need."""
    chance = random.Random(SEED + number)
    made = []
    for _ in range(number):
        start_at = MONTH.start_at + timedelta(seconds=chance.randrange(-14_400, 31 * 86_400))
        made.append(
            (
                TimeSpan.starting(start_at, timedelta(minutes=chance.choice((30, 60, 120, 480)))),
                chance.choice((1, 1, 1, 2)),
            )
        )
    held = sum((span.duration * count for span, count in made), timedelta(0))
    return round(1.5 * (held / MONTH.duration)) + 1, made


def measured(ask: Callable[[], object], times: int) -> list[float]:
    """How long each of ``times`` answers took, in milliseconds, after a few that nobody counts."""
    for _ in range(min(10, times)):
        ask()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
    return sorted(taken)


def p99(taken: list[float]) -> float:
    return taken[min(len(taken) - 1, -(-99 * len(taken) // 100) - 1)]


@contextmanager
def filled(url: str, made: list[tuple[TimeSpan, int]]) -> Iterator[psycopg.Connection]:
    """A connection to a table of these bookings, as well prepared as it can be."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        # Room to sort in memory, and no just-in-time compiler, which costs such a query more than it saves.
        connection.execute("SET work_mem = '64MB'")
        connection.execute("SET jit = off")
        connection.execute("CREATE TABLE bookings (span tstzrange NOT NULL, count int NOT NULL)")
        with connection.cursor() as cursor, cursor.copy("COPY bookings (span, count) FROM STDIN") as copy:
            for span, count in made:
                copy.write_row((f"[{span.start_at.isoformat()},{span.end_at.isoformat()})", count))
        connection.execute("CREATE INDEX ON bookings USING gist (span)")
        connection.execute("VACUUM (ANALYZE, FREEZE) bookings")
        yield connection


def ask_postgres(connection: psycopg.Connection, query: str, capacity: int) -> list[int]:
    values = {"start": MONTH.start_at, "end": MONTH.end_at, "capacity": capacity}
    return [row[0] for row in connection.execute(query, values, prepare=True)]  # type: ignore[call-overload]


def run() -> list[Figure]:
    with postgres_cluster() as cluster:
        return [compared(number, cluster.new_database()) for number in SIZES]


def compared(number: int, url: str) -> Figure:
    """One size: the same answer from both, then how long each takes."""
    capacity, made = bookings(number)
    calendar, pool = Calendar(), Pool("pool", "the pool", "local", "A100", capacity, 1, True, 81_920)
    calendar.set_capacity(pool.id, capacity)
    for span, count in made:
        calendar.of(pool.id).add(span, count)

    def ask() -> list[int]:
        return [free for _, free in availability(calendar, pool, span=MONTH, step=HOUR)]

    # The probe counts at every beginning: with many bookings that is minutes, where the sweep takes a second.
    queries = {"sweep": SWEEP, "probe": PROBE} if number == SIZES[0] else {"sweep": SWEEP}
    theirs: dict[str, float] = {}
    with filled(url, made) as connection:
        del made
        ours = p99(measured(ask, ASKED))
        for name, query in queries.items():
            if ask_postgres(connection, query, capacity) != ask():
                raise AssertionError(f"PostgreSQL's {name} gives another answer for {number:,} bookings")
            ask_theirs = partial(ask_postgres, connection, query, capacity)
            theirs[name] = statistics.median(measured(ask_theirs, ASKED_OF_POSTGRES))
    best = min(theirs, key=lambda name: theirs[name])
    promised = number == SIZES[-1]
    return Figure(
        name="what is free in each hour of a month, 99th percentile",
        figure=ours,
        yardstick=theirs[best],
        ratio=ours / theirs[best],
        unit="ms",
        size=f"{number:,} bookings of a pool",
        yardstick_name=f"PostgreSQL range index, {best}, median",
        goal="under 5 ms, ratio < 1" if promised else "",
        met=(ours < 5 and ours < theirs[best]) if promised else None,
    )


if __name__ == "__main__":
    for figure in run():
        print(figure.row())
