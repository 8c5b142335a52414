"""A stand-in for Apptainer, which Debian has none of: its manual's command line, and its view of the file systems.

Of ``apptainer exec`` it knows what our documentation uses and refuses any other flag, as the real one refuses those
that its manual lacks. What is on a shared file system is not there inside unless it is bound; the environment comes
along, but for PATH, which is the image's; stdin, /tmp, processes and the network are the host's. Of the image it asks
only that it is there.
"""

from __future__ import annotations

from pathlib import Path

_PROGRAM = """#!/bin/sh
# Of the shared file system {shared} the container has what is bound.
unset binds
[ "$1" = exec ] || {{ echo "Error for command \\"apptainer\\": unknown command \\"$1\\"" >&2; exit 1; }}
shift
while true; do
    case "$1" in
        --nv) shift ;;
        --bind|-B) binds="$binds $(echo "$2" | tr , ' ')"; shift 2 ;;
        -*) echo "Error for command \\"exec\\": unknown flag: $1" >&2; exit 1 ;;
        *) break ;;
    esac
done
[ -e "$1" ] || {{ echo "FATAL: could not open image $1: no such file or directory" >&2; exit 255; }}
export APPTAINER_CONTAINER="$1" BINDS="$binds"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
shift
exec unshare --mount --propagation private sh -ec '
    kept=$(mktemp -d); mount -t tmpfs tmpfs "$kept"; number=0
    for each in $BINDS; do number=$((number + 1)); mkdir "$kept/$number"; mount --bind "$each" "$kept/$number"; done
    mount -t tmpfs tmpfs {shared}; number=0
    for each in $BINDS; do
        number=$((number + 1)); mkdir -p "$each"; mount --bind "$kept/$number" "$each"; umount "$kept/$number"
    done
    umount "$kept"; rmdir "$kept"; unset BINDS; exec "$@"' sh "$@"
"""


def install(folder: Path, shared: Path) -> Path:
    """Write the stand-in; of ``shared`` its containers have only what is bound."""
    program = folder / "apptainer"
    program.write_text(_PROGRAM.format(shared=shared))
    program.chmod(0o755)
    return program
