"""What must be so in the books whenever nothing is under way, whoever was killed before."""

from __future__ import annotations

from sqlalchemy import select

from computehub_ext.core.database import Unit
from computehub_ext.leases.store import device_claims, leases, placements
from computehub_ext.leases.store import lease as find_lease
from computehub_ext.ledger.tables import holds


def placed_for_running(unit: Unit) -> dict[str, list[str]]:
    """The placements of each running lease, after a look at whether all else is over and settled."""
    rows = unit.connection.execute(select(leases)).all()
    assert {row.state for row in rows} <= {"running", "closed"}
    open_holds = set(unit.connection.scalars(select(holds.c.id).where(holds.c.state == "open")))
    assert open_holds == {row.hold_id for row in rows if row.state == "running"}
    drawn = {row.id: row.drawn_microcredits for row in unit.connection.execute(select(holds))}
    for row in rows:
        lease = find_lease(unit, row.id)
        assert lease is not None
        if row.state == "closed":
            assert row.posted_microcredits == lease.cost_microcredits(lease.created_at), "not billed as it is told"
        assert drawn[row.hold_id] == row.posted_microcredits
        if row.started_at is None or row.end_reason == "start_failed":
            assert row.posted_microcredits == 0, "charged for what nobody had"
    live = unit.connection.execute(select(placements).where(placements.c.state != "ended")).all()
    assert set(unit.connection.scalars(select(device_claims.c.placement_id))) == {row.id for row in live}
    placed: dict[str, list[str]] = {row.id: [] for row in rows if row.state == "running"}
    for row in live:
        placed[row.lease_id].append(row.id)  # a KeyError here is a placement that no running lease wants
    assert all(len(ids) == 1 for ids in placed.values())
    return placed
