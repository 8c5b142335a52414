"""What is written down of a placement, so that a successor goes on where a killed control plane was."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..model import Ending, Look, LookState, Placed

ENDED_KEPT_SECONDS = 24 * 3600.0


@dataclass
class Record:
    """One placement's file. What is secret in it is emptied at the end; the folder is private."""

    placement_id: str
    user: str = ""
    job_id: str = ""
    node: str = ""
    token_hash: str = ""
    """Of the token that the job shows once; empty when it was shown."""
    peer_key: str = ""
    """The launcher's public key, which stands for the placement from then on."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    connection: dict[str, Any] = field(default_factory=dict, repr=False)
    python_version: str = ""
    details: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    paid_until: float = 0.0
    told_until: float = 0.0
    """The latest moment that the other end may believe to be paid: after it the kernel has ended itself."""
    is_berth: bool = False
    """Whether its job was asked for ahead and its kernel was not yet."""
    minutes: int = 0
    """The job's time limit, as it was asked for."""
    python: str = ""
    """What the job itself is run with."""
    ends_at: float = 0.0
    """When Slurm ends the job; 0 until it runs."""
    reason: str = ""
    exit_code: int | None = None
    message: str = ""
    kind: str = ""
    """Of a start that failed, what was missing."""
    ended_at: float = 0.0
    log: str = ""
    is_in_slurm: bool = True
    """Whether the job may still be there, though its kernel has ended."""
    is_unfenced: bool = False
    """Whether the kernel may still run on a node that Slurm calls dead."""

    @property
    def is_ended(self) -> bool:
        return bool(self.reason)

    def placed(self) -> Placed:
        return Placed(
            placement_id=self.placement_id,
            connection_info=dict(self.connection),
            warm=False,
            pid=None,
            python_version=self.python_version,
            host=self.connection["ip"],
            details=dict(self.details),
            ends_at=datetime.fromtimestamp(self.ends_at, UTC) if self.ends_at else None,
        )

    def ending(self) -> Look:
        return Look(
            self.placement_id,
            LookState.ENDED,
            self.exit_code,
            Ending(self.reason),
            self.message,
            datetime.fromtimestamp(self.ended_at, UTC),
        )


class Held:
    """A placement in memory: its record, and what only this process knows of it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.changed = threading.Condition(threading.RLock())
        """Guards both; told of each step."""
        self.starting = threading.Lock()
        self.state = ""
        """As the launcher tells it."""
        self.to_start: dict[str, Any] | None = None
        self.peer: bytes | None = None
        self.beat_at = time.monotonic()
        self.seen_since = 0.0
        """When Slurm was first seen to have ended the job that we still hold to run."""
        self.stop_asked = False
        self.cancelled_at = 0.0
        self.problem: Exception | None = None
        self.is_node_silent = False
        """Whether Slurm, too, does not hear the node of a job that gives no sign of life."""
        self.silent_since = 0.0
        """Since when Slurm has heard its node, and we nothing of it; 0 where that is not so."""
        self.heard_again_at = 0.0
        """When such a silence ended last. It is billed, so that no end is told to have been in it."""
        self.submitted_at = 0.0
        """When this process had submitted its job, which an srun's is not in Slurm's books at once; 0 if it did not."""
        self.is_awaited = False
        """Whether somebody waits for the berth to be ready."""

    def is_ready(self, lost_seconds: float) -> bool:
        """Whether it is a berth whose job runs."""
        return self.record.is_berth and self.state == "waiting" and self.is_heard(lost_seconds)

    @property
    def heard_at(self) -> float:
        """When it gave its last sign of life; the start of this process where it gave none since."""
        return time.time() - (time.monotonic() - self.beat_at)

    def hear(self) -> None:
        """Take note of a sign of life."""
        if self.silent_since:
            self.silent_since, self.heard_again_at = 0.0, time.time()
        self.beat_at = time.monotonic()

    def is_heard(self, lost_seconds: float) -> bool:
        return self.peer is not None and time.monotonic() - self.beat_at < lost_seconds


class Records:
    """All placements of a state folder, read once and written through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()
        known = {each.name for each in fields(Record)}
        for path in sorted(folder.glob("*.json")):
            with suppress(OSError, ValueError, TypeError):
                found = json.loads(path.read_text(encoding="utf-8"))
                record = Record(**{name: value for name, value in found.items() if name in known})
                self._held[record.placement_id] = Held(record)

    def get(self, placement_id: str) -> Held | None:
        return self._held.get(placement_id)

    def make(self, record: Record) -> tuple[Held, bool]:
        """Return what is held under the id, and whether it is new."""
        with self._lock:
            if (held := self._held.get(record.placement_id)) is not None:
                return held, False
            held = Held(record)
            self.save(record)
            self._held[record.placement_id] = held
            return held, True

    def all(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    def by_peer_key(self, key: str) -> Held | None:
        return next((held for held in self.all() if held.record.peer_key == key), None)

    def save(self, record: Record) -> None:
        path = self.folder / f"{record.placement_id}.json"
        # Dotted and not .json: a half-written one is never read as a record.
        new = self.folder / f".{record.placement_id}.{threading.get_ident()}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        os.replace(new, path)

    def forget_old(self, now: float) -> None:
        """Drop what ended a day ago."""
        for held in self.all():
            record = held.record
            gone = record.is_ended and not record.is_in_slurm and not record.is_unfenced
            if gone and now - record.ended_at > ENDED_KEPT_SECONDS:
                with self._lock:
                    self._held.pop(record.placement_id, None)
                (self.folder / f"{record.placement_id}.json").unlink(missing_ok=True)
