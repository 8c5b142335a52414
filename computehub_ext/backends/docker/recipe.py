"""From a request and a place's settings to a container: whose it is, what it sees, what it may use."""

from __future__ import annotations

import errno
import os
import posixpath
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from computehub_ext.core.errors import Invalid, Refused

from ..environment import LABEL, OWNER, for_placement
from ..model import StartRequest
from . import network
from .engine import Image
from .folders import CONTROL, Folder
from .mounting import open_folder
from .settings import DockerSettings, Mount
from .shared import SharedFolder

OWNER_LABEL, PLACEMENT_LABEL, FOLDER_LABEL = "computehub.owner", "computehub.placement", "computehub.folder"
LATE_LABEL = "computehub.late"
DEVICES_LABEL = "computehub.devices"
LATE_HOME = "/tmp"
"""A standby's home folder where its person's own is mounted late."""
SOCKET = "server.sock"
_UID_MIN = 1000
"""Below are the system's accounts; a person who is called like one of them does not get it."""
_GLOBAL_IDS = ("GPU-", "MIG-")
_MIB = 2**20
_ALWAYS_THERE = ("/", "/tmp")


@dataclass(frozen=True)
class Wanted:
    """What one kernel needs of its container, settled before anything is made. ``late`` is a standby's: see late.py."""

    user: tuple[int, int]
    mounts: tuple[Mount, ...]
    cwd: str
    home: str
    device_uuids: tuple[str, ...]
    late: tuple[str, ...] = ()
    seen: tuple[tuple[str, int, int], ...] = field(default=(), compare=False)
    """Path inside, device and inode of the personal folders that were looked at: the engine mounts by name, later."""


def user_of(settings: DockerSettings, username: str) -> tuple[int, int]:
    """Return uid and gid by the place's rule. Raises ``Refused``."""
    if settings.user == "account":
        try:
            account = pwd.getpwnam(username)
        except (KeyError, ValueError) as problem:
            raise Refused(f"There is no account {username!r} on this machine to run a kernel as.") from problem
        if account.pw_uid < _UID_MIN and not (account.pw_uid == 0 and settings.allow_root):
            raise Refused(f"The account {username!r} is the system's own, and no kernel runs as it.")
        uid, gid = account.pw_uid, account.pw_gid
    elif settings.user == "server":
        uid, gid = os.geteuid(), os.getegid()
    else:
        uid, gid = (int(part) for part in settings.user.split(":"))
    if uid == 0 and not settings.allow_root:
        raise Refused("A kernel would run as root here, which this place's settings don't allow.")
    if not settings.is_remote and os.geteuid() not in (0, uid):
        raise Refused(f"ComputeHub can start kernels as uid {uid} only where it runs as that, or as root.")
    return uid, gid


def wanted_by(settings: DockerSettings, request: StartRequest) -> Wanted:
    """Settle what the request comes to here. Raises ``Refused`` with what this place lacks."""
    if request.kernel_name not in settings.kernel_names:
        known = sorted(settings.kernel_names)
        raise Refused(
            f"There is no kernel {request.kernel_name!r} here; there is {', '.join(known)}.", known=known, kind="kernel"
        )
    try:
        mounts = tuple(mount.of(request.username) for mount in settings.mounts)
        home = Mount("/", settings.home).of(request.username).inside
    except Invalid as problem:
        raise Refused(problem.message) from problem
    cwd = posixpath.normpath(request.cwd)
    if not _is_there(cwd, mounts, settings.is_remote):
        raise no_folder(request.cwd)
    user, seen = user_of(settings, request.username), []
    if not settings.is_remote:
        for template, mount in zip(settings.mounts, mounts, strict=True):
            if template.is_personal:
                seen += _looked_at(mount)
    devices = () if request.simulated or not settings.gpus else tuple(device.uuid for device in request.devices)
    return Wanted(user, mounts, cwd, home, devices, seen=tuple(seen))


def _looked_at(mount: Mount) -> list[tuple[str, int, int]]:
    """Refuse a person's folder that a link of somebody's leads to: the engine, which is root, would mount anybody's."""
    try:
        folder = open_folder(mount.source)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise Refused(
                f"On the way to {mount.source} is a link that somebody other than root made, and it is not followed.",
                kind="folder",
            ) from problem
        # Not left to the engine: what is not there now may be a link by the time that it looks.
        raise Refused(f"{mount.source} can't be mounted: {problem.strerror}.", kind="folder") from problem
    try:
        found = os.fstat(folder)
    finally:
        os.close(folder)
    return [(mount.inside, found.st_dev, found.st_ino)]


def for_standby(settings: DockerSettings, device_uuids: tuple[str, ...], late: tuple[str, ...], home: str) -> Wanted:
    """Return what a kernel needs that is nobody's yet. ``late`` are the points of personal folders, see late.py."""
    fixed = tuple(mount for mount in settings.mounts if not mount.is_personal)
    return Wanted(user_of(settings, ""), fixed, "/", home, device_uuids, late)


def no_folder(cwd: str) -> Refused:
    return Refused(f"There is no folder {cwd} in the containers of this place.", kind="folder")


def _is_there(cwd: str, mounts: tuple[Mount, ...], is_remote: bool) -> bool:
    if cwd in _ALWAYS_THERE:
        return True
    around = [mount for mount in mounts if _is_below(cwd, posixpath.normpath(mount.inside))]
    if not around or is_remote:
        return bool(around)  # the engine is asked what is in them, once there is a container
    mount = max(around, key=lambda each: len(posixpath.normpath(each.inside)))
    source = os.path.realpath(mount.source)
    found = os.path.realpath(os.path.join(source, os.path.relpath(cwd, posixpath.normpath(mount.inside))))
    # Followed as the container would, so that a link out of the mount does not tell what lies elsewhere on the machine.
    return _is_below(found, source) and os.path.isdir(found)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def environment_of(settings: DockerSettings, image: Image, wanted: Wanted, username: str) -> dict[str, str]:
    """Return what a kernel's environment begins with: the image's own and the settings'; of the server's, nothing."""
    own = {"HOME": wanted.home, "LANG": "C.UTF-8", "IPYTHONDIR": posixpath.join(wanted.home, ".ipython")}
    if username:
        own |= {"USER": username, "LOGNAME": username}  # a uid that the image has no name for
    if settings.threads is not None:
        own["OMP_NUM_THREADS"] = str(settings.threads)
    environment = {**image.environment, **own, **settings.environment}
    environment["NVIDIA_VISIBLE_DEVICES"] = _visible(wanted)
    return environment


def kernel_environment(
    settings: DockerSettings, image: Image, wanted: Wanted, request: StartRequest, folder: Folder, owner: str
) -> dict[str, str]:
    environment = for_placement(environment_of(settings, image, wanted, request.username), {}, request)
    if wanted.device_uuids and not all(each.startswith(_GLOBAL_IDS) for each in wanted.device_uuids):
        # Numbers are the machine's; in the container, which has these devices and no others, they count from 0.
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in range(len(wanted.device_uuids)))
    environment |= label(request.placement_id, owner)
    if not settings.uses_ports:
        environment["COMPUTEHUB_SOCKET"] = posixpath.join(folder.inside, SOCKET)
    return environment


def label(placement_id: str, owner: str) -> dict[str, str]:
    return {LABEL: placement_id, OWNER: owner}


def fill(
    folder: Folder,
    settings: DockerSettings,
    wanted: Wanted,
    environment: Mapping[str, str],
    key: str,
    told: Mapping[str, Any],
    standby: str = "",
    arguments: Sequence[str] = (),
) -> None:
    """Put into the folder what supervisor and kernel read at their start. ``standby`` is its secret, if it is one."""
    file = posixpath.join(folder.inside, "connection.json")
    folder.give("connection.json", {**told, "key": key, "signature_scheme": "hmac-sha256"}, wanted.user)
    if standby:
        folder.give("adopt.secret", standby, wanted.user)
    argv = [settings.python, f"{CONTROL}/standby.py", *(["--standby"] if standby else []), file, *arguments]
    umask = 0o007 if settings.shared_with_group else 0o022
    words = [str(umask), wanted.cwd, str(len(wanted.seen)), *(str(part) for each in wanted.seen for part in each)]
    words += [str(len(argv)), *argv, *(f"{name}={value}" for name, value in environment.items())]
    if any("\0" in word for word in words):
        raise Refused("Nothing that a kernel is started with may hold a zero byte.")
    folder.give("request", "".join(f"{word}\0" for word in words), wanted.user)


def container_of(
    settings: DockerSettings, image: Image, wanted: Wanted, folder: Folder, owner: str, placement: str
) -> dict[str, Any]:
    """Return the container as the engine's API wants it. No secret is in it: who may list containers reads all."""
    labels = {OWNER_LABEL: owner, PLACEMENT_LABEL: placement, FOLDER_LABEL: folder.key}
    # Empty ones too: what is not said here, the engine takes from the image.
    labels[LATE_LABEL] = ":".join(wanted.late)
    labels[DEVICES_LABEL] = ",".join(wanted.device_uuids)
    host: dict[str, Any] = {
        "Mounts": [
            *folder.mounts(),
            *(
                {"Type": "bind", "Source": mount.source, "Target": mount.inside, "ReadOnly": mount.read_only}
                for mount in wanted.mounts
            ),
            *_windows(wanted, folder),
        ],
        **network.host_options(settings, owner),
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "PidsLimit": settings.pids_max,
        # The supervisor is the first process and does what an init does; below one, a cell could stop it with a signal.
        "Init": False,
        "IpcMode": "private",
        "ShmSize": settings.shared_memory_mib * _MIB,
        "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={settings.tmpfs_mib}m"},
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "100k", "max-file": "1"}},
    }
    if settings.memory_mib:
        host["Memory"] = host["MemorySwap"] = settings.memory_mib * _MIB
    if settings.cpus:
        host["NanoCpus"] = int(settings.cpus * 1e9)
    if settings.runtime:
        host["Runtime"] = settings.runtime
    if wanted.device_uuids:
        request = {"Driver": settings.gpu_driver, "DeviceIDs": list(wanted.device_uuids), "Capabilities": [["gpu"]]}
        host["DeviceRequests"] = [request]
    variables = {**label(placement, owner), "NVIDIA_VISIBLE_DEVICES": _visible(wanted)}
    return {
        "Image": image.id,
        "Entrypoint": [settings.python, "-I", "-S", f"{CONTROL}/first.py", folder.inside, CONTROL],
        "Cmd": [],
        "User": f"{wanted.user[0]}:{wanted.user[1]}",
        "WorkingDir": "/",
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": labels,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "HostConfig": host,
    }


def _windows(wanted: Wanted, folder: Folder) -> list[dict[str, Any]]:
    if not wanted.late:
        return []
    assert isinstance(folder, SharedFolder), "there are no standbys elsewhere"
    return [
        {
            "Type": "bind",
            "Source": str(folder.window.place(number)),
            "Target": point,
            "ReadOnly": True,
            "BindOptions": {"Propagation": "rslave"},  # what is mounted there later is seen inside
        }
        for number, point in enumerate(wanted.late)
    ]


def _visible(wanted: Wanted) -> str:
    # Images of CUDA say "all", which a machine whose default runtime is NVIDIA's would obey.
    return ",".join(wanted.device_uuids) or "void"
