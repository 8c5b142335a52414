"""Files on their way to and from a container, which an engine packs into tar archives.

What comes was perhaps made by somebody whom this process must not trust: of an archive the first entry alone is looked
at, nothing but a plain file is taken, and of an endless one no more is read than ``_BYTES_MAX``.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

PART_BYTES = 65536
_BYTES_MAX = 8 * 2**20


def first_file(parts: Iterator[bytes], bytes_max: int, *, from_end: bool) -> bytes | None:
    """Return the beginning or the end of the one file in an archive; None if it is something else."""
    source = _Bounded(parts)
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            entry = archive.next()
            file = archive.extractfile(entry) if entry is not None and entry.isreg() else None
            if file is None:
                return None
            if not from_end:
                return file.read(bytes_max)
            kept = b""
            while not source.is_spent and (part := file.read(PART_BYTES)):
                kept = (kept + part)[-bytes_max:]
            return kept
    except tarfile.TarError:
        return None


class Archive:
    """A tar archive in the making."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._file = tarfile.TarFile(fileobj=self._bytes, mode="w")

    def add(self, name: str, contents: bytes | None, owner: tuple[int, int], mode: int) -> None:
        """Add a file, or a folder where there are no contents."""
        entry = tarfile.TarInfo(name)
        entry.uid, entry.gid = owner
        entry.mode = mode
        if contents is None:
            entry.type = tarfile.DIRTYPE
        else:
            entry.size = len(contents)
        self._file.addfile(entry, io.BytesIO(contents or b""))

    def made(self) -> bytes:
        self._file.close()
        return self._bytes.getvalue()


class _Bounded(io.BufferedIOBase):
    """What arrives in parts, as a file that ends early where there is too much of it."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._rest, self._left = parts, b"", _BYTES_MAX

    @property
    def is_spent(self) -> bool:
        return self._left <= 0

    def read(self, count: int | None = -1) -> bytes:
        assert count is not None and count >= 0, "who reads says how much"
        while len(self._rest) < count and not self.is_spent and (part := next(self._parts, b"")):
            self._rest += part
            self._left -= len(part)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken
