"""What arrives from jobs: who they are, how they are, and how they end. All in the link's thread, so nothing waits."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from ..model import ENDINGS, Ending
from .link import Link
from .records import Held, Records

log = logging.getLogger(__name__)

_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
START_SECONDS = 30.0
"""How long a job may have run before its first word, at most: so much earlier than asked for it may end."""
_LOG_CHARACTERS_MAX = 16 * 1024
ENDED_BY_CLUSTER = "ended by the cluster"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Desk:
    """Receives jobs' messages and keeps the records by them."""

    def __init__(self, records: Records, link: Link) -> None:
        self._records, self._link = records, link
        self._by_key: dict[str, str] = {
            held.record.peer_key: held.record.placement_id for held in records.all() if held.record.peer_key
        }
        self.refused_count = 0
        self.on_cluster_end: Callable[[], None] = lambda: None

    def on_message(self, key: str, peer: bytes, message: dict[str, Any]) -> None:
        known = self._by_key.get(key)
        held = self._records.get(known) if known else None
        if message["t"] == "beat":
            if held is None or held.peer != peer:
                self._link.send(peer, {"t": "who"})  # it is new to us, or we are new to it
            else:
                held.hear()
        elif message["t"] == "report":
            if held is None:
                held = self._admit(key, peer, message)
            if held is not None:
                self._take_report(held, peer, message)

    def _admit(self, key: str, peer: bytes, message: dict[str, Any]) -> Held | None:
        """Return whose token was shown, and take its key for it; a token is good for one key and once."""
        held = self._records.get(str(message.get("placement")))
        shown = digest(str(message.get("token")))
        if held is not None:
            with held.changed:
                record = held.record
                wanted = record.token_hash
                if wanted and not record.is_ended and hmac.compare_digest(shown, wanted):
                    record.token_hash, record.peer_key = "", key
                    self._records.save(record)
                    self._by_key[key] = record.placement_id
                    return held
        self.refused_count += 1
        log.warning(
            "A job was refused: placement %.80r and what it showed don't belong together.", message.get("placement")
        )
        self._link.send(peer, {"t": "refused", "why": "placement and token don't belong together"})
        return None

    def _take_report(self, held: Held, peer: bytes, report: dict[str, Any]) -> None:
        with held.changed:
            record = held.record
            is_new, held.peer = held.peer != peer, peer
            held.hear()
            if is_new:
                self._link.send(peer, {"t": "welcome", "now": time.time()})
            if record.is_ended:
                # Ended without it, such as by a stop while it was away.
                held.state = str(report["state"])
                if report.get("end"):
                    self._close(held, peer)
                else:
                    self._link.send(peer, {"t": "refused", "why": "the placement has ended"})
                return
            held.state = str(report["state"])
            self._note_place(held, report)
            if held.state == "waiting" and held.stop_asked:
                self._link.send(peer, {"t": "stop", "grace": 0.0})
            elif held.state == "waiting" and held.to_start is not None:
                self._link.send(peer, held.to_start)
            elif held.state == "waiting" and record.is_berth:
                self._link.send(peer, {"t": "renew", "paid_until": record.told_until})
            elif held.state == "listening" and not record.connection:
                self._note_connection(held, report)
            elif report.get("end"):
                self._end(held, peer, report)
            held.changed.notify_all()

    def _note_place(self, held: Held, report: dict[str, Any]) -> None:
        record = held.record
        # What it calls its job is believed only for its own placement, and never over what sbatch said.
        record.job_id = record.job_id or str(report.get("job", ""))
        record.node = record.node or str(report.get("node", ""))[:80]  # until Slurm itself says it
        if not record.ends_at:
            asked_for = time.time() + record.minutes * 60 - START_SECONDS
            record.ends_at = _told(report.get("job_ends_at")) or asked_for
            self._records.save(record)

    def _note_connection(self, held: Held, report: dict[str, Any]) -> None:
        record = held.record
        record.connection = {
            "transport": "tcp",
            "ip": str(report["ip"]),
            **{port: int(report["connection"][port]) for port in _PORTS},
            "key": record.secrets["session_key"],
            "signature_scheme": "hmac-sha256",
            "curve_publickey": record.secrets["curve_publickey"],
            "curve_secretkey": record.secrets["curve_secretkey"],
        }
        record.python_version = str(report.get("python_version", ""))[:40]
        record.details = {"job_id": record.job_id, "node": record.node}
        if report.get("gpus"):
            record.details["gpus"] = str(report["gpus"])[:80]
        self._records.save(record)

    def _end(self, held: Held, peer: bytes, report: dict[str, Any]) -> None:
        end = report["end"]
        record = held.record
        record.log = str(end.get("log", ""))[-_LOG_CHARACTERS_MAX:]
        if end.get("cluster") and not held.stop_asked:
            # The cluster ended it, and only the cluster knows why: the watch asks. The kernel is gone all the same.
            held.state = ENDED_BY_CLUSTER
            record.exit_code, record.ended_at = _code(end), _moment(end, held)
            self._link.send(peer, {"t": "done"})
            self.on_cluster_end()
            return
        reason = Ending(end["reason"])
        if held.stop_asked and reason in (Ending.KILLED, Ending.CRASHED, Ending.EXITED, Ending.SUPERVISOR_LOST):
            reason = Ending.STOPPED  # a kernel that died of our stop, before its supervisor took it up
        if reason is Ending.EXITED and not end.get("listened"):
            reason = Ending.START_FAILED
        record.message = str(end.get("message", "")) or ENDINGS[reason]
        record.kind = str(end.get("kind", ""))[:40]
        record.exit_code, record.ended_at, record.reason = _code(end), _moment(end, held), reason.value
        self._close(held, peer)

    def _close(self, held: Held, peer: bytes) -> None:
        """Say that the end is written down, so that the launcher goes and Slurm gets its devices back."""
        record = held.record
        record.is_unfenced = False  # it was told by itself
        empty_secrets(record)
        self._records.save(record)
        self._link.send(peer, {"t": "done"})


def _moment(end: dict[str, Any], held: Held) -> float:
    """When the job says that it ended: never a moment that can't be, since the job is the person's own."""
    at, now = float(end["at"]), time.time()
    return min(max(at, held.record.created_at, held.heard_again_at), now) if math.isfinite(at) else now


def _told(moment: Any) -> float:
    """When Slurm tells its job that it will end: at some time that a job can have."""
    now = time.time()
    is_likely = isinstance(moment, int | float) and now < moment < now + 366 * 24 * 3600
    return float(moment) if is_likely else 0.0


def _code(end: dict[str, Any]) -> int | None:
    code = end.get("exit_code")
    return code if isinstance(code, int) else None


def empty_secrets(record: Any) -> None:
    record.secrets, record.connection, record.token_hash = {}, {}, ""
