"""What has to be known of a placement when its container is gone: that it was started, and how it ended."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ..model import Ending, Look, LookState

ENDED_KEPT_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Record:
    """``is_gone`` says that nothing of it is left; an end is written before the container is touched."""

    folder: str = ""
    reason: Ending | None = None
    exit_code: int | None = None
    message: str = ""
    ended_at: float = 0.0
    is_gone: bool = False
    log: str = ""

    def as_look(self, placement_id: str) -> Look:
        assert self.reason is not None
        ended_at = datetime.fromtimestamp(self.ended_at, UTC)
        return Look(placement_id, LookState.ENDED, self.exit_code, self.reason, self.message, ended_at)


class Records:
    """One small file each, below a folder that only the control plane enters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self._swept_at = 0.0

    def read(self, placement_id: str) -> Record | None:
        try:
            found = json.loads((self._folder / f"{placement_id}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        reason = found.pop("reason")
        return Record(**found, reason=None if reason is None else Ending(reason))

    def write(self, placement_id: str, record: Record) -> Record:
        path = self._folder / f"{placement_id}.json"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        os.replace(temporary, path)
        return record

    def gone(self, placement_id: str, record: Record) -> Record:
        return self.write(placement_id, replace(record, is_gone=True))

    def unfinished(self) -> list[str]:
        """Return the ended placements that were not cleared up; forget those that ended long ago."""
        now, found = time.time(), []
        for path in self._folder.glob("[!.]*.json"):
            record = self.read(path.stem)
            if record is None or record.reason is None:
                continue
            if not record.is_gone:
                found.append(path.stem)
            elif now - record.ended_at > ENDED_KEPT_SECONDS:
                path.unlink(missing_ok=True)
        return found
