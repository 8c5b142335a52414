"""The time zone that a person's ``tomorrow 14:00`` means, as an IANA name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from .wording import zone_of

ZONE_VARIABLE = "COMPUTEHUB_TIME_ZONE"
_LOCALTIME = "/etc/localtime"
_TIMEZONE = "/etc/timezone"


def local_zone(
    environ: Mapping[str, str] | None = None, localtime: str = _LOCALTIME, timezone_file: str = _TIMEZONE
) -> str:
    """Find the zone: the setting ``COMPUTEHUB_TIME_ZONE``, then ``TZ``, then the machine's own; at last ``UTC``."""
    environ = os.environ if environ is None else environ
    for candidate in (environ.get(ZONE_VARIABLE), environ.get("TZ", "").lstrip(":")):
        name = _known(_after_zoneinfo(candidate or ""))
        if name:
            return name
    name = _known(_after_zoneinfo(os.path.realpath(localtime)))
    if name:
        return name
    try:
        with open(timezone_file, encoding="ascii", errors="replace") as file:
            return _known(file.readline().strip()) or "UTC"
    except OSError:
        return "UTC"


def _after_zoneinfo(path: str) -> str:
    match = re.search(r"zoneinfo/(?:posix/|right/)?(.+)$", path)
    return match.group(1) if match else path


def _known(name: str) -> str | None:
    if not name or name.startswith("/"):
        return None
    if name.upper() in ("UTC", "ETC/UTC", "UCT", "ZULU", "ETC/UCT", "ETC/ZULU"):
        return "UTC"
    return name if zone_of(name)[0] == name else None
