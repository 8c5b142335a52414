"""What an administrator chooses for one place with a Docker engine."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from computehub_ext.core.errors import Invalid

from . import remote
from .network_rules import RULES, policy_of

_USERNAME = "{username}"
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_USER = re.compile(r"[0-9]+:[0-9]+")
_LEAST_OF_WARM = {
    "warm_idle_seconds": (0, "how many seconds, or 0 to keep them for good"),
    "warm_memory_mib_max": (1, "how many MiB, at least 1; one takes about 40"),
    "warm_replace_delay_seconds": (0, "how many seconds, or 0 for at once"),
    "warm_lifetime_seconds": (1, "how many seconds, at least 1"),
    "warm_age_seconds_max": (1, "how many seconds, at least 1"),
}


@dataclass(frozen=True)
class Mount:
    """A folder of the engine's machine that kernels see.

    Parameters
    ----------
    source:
        An absolute path there; ``{username}`` in it becomes the name of the person for whom the kernel runs. It has to
        exist: a kernel is refused rather than given an empty folder.
    target:
        The path in the container, the same as ``source`` when empty. Notebooks' folders need the path that the Jupyter
        server sees, since that is where the kernel is started.
    read_only:
        For data sets.
    """

    source: str
    target: str = ""
    read_only: bool = False

    def __post_init__(self) -> None:
        for path in (self.source, self.inside):
            if not path.startswith("/") or ".." in path.split("/"):
                raise Invalid(f"A mount's folders are absolute paths, and {path!r} is not.", field="mounts")
        if self.inside.rstrip("/") == "":
            raise Invalid("A mount over the whole of the container leaves nothing of it.", field="mounts")

    @property
    def inside(self) -> str:
        return self.target or self.source

    @property
    def is_personal(self) -> bool:
        return _USERNAME in self.source + self.target

    def of(self, username: str) -> Mount:
        """Return the mount for one person."""
        if not self.is_personal:
            return self
        if username in ("", ".", "..") or "/" in username or "\0" in username or ":" in username:
            raise Invalid(f"There can't be a folder of {username!r}.", field="username")
        return Mount(self.source.replace(_USERNAME, username), self.inside.replace(_USERNAME, username), self.read_only)


@dataclass(frozen=True)
class DockerSettings:
    """One place: an engine, an image, and what its kernels may use. Memory is in MiB, times are in seconds.

    Parameters
    ----------
    image:
        The image's name as ``docker images`` shows it. It holds a Python with ipykernel, and need not hold ComputeHub.
    pull:
        What is done about an image that the engine does not have. ``never``: starts are refused, with what to do.
        ``missing``: it is pulled from its registry in the background, by itself; until it is there, offers say how far
        that is and nobody is billed. For images that have their registry's name in them: a name without one means the
        Docker Hub, where it may be anybody's. Logins are the account's own (``docker login``).
    engine_url:
        The engine's socket on this machine, ``unix:///var/run/docker.sock`` when empty. An engine on another machine is
        ``tcp://host:2376``, with the three ``tls`` files, or ``ssh://user@host`` (a port and the path of the engine's
        socket may follow). Its kernels' ports are published there, and their messages are encrypted; ``user`` is a uid
        and a gid then, ``network`` one that ports can be published on, and nothing is kept ready.
    tls_ca:
        The certificate of who signed the engine's own, a file.
    tls_cert:
        The certificate that is shown to the engine, a file.
    tls_key:
        The key of ``tls_cert``, a file that only the control plane's account can read.
    ssh_config:
        A file as ssh_config(5) describes it, with the key, the known hosts and the like for ``ssh://``; the account's
        own when empty. Whatever it says, a host whose key is not known is not spoken to, and nobody is asked anything.
    transport:
        How a Jupyter server on this machine reaches kernels. ``ipc``: by sockets in a folder that the kernel's account
        and, with ``shared_with_group``, its group can enter. ``curve``: by ports that are published on this machine,
        always encrypted (CurveZMQ), for a server whose account shares neither with the kernel's; ``network`` is one
        that ports can be published on then. An engine on another machine is reached so whatever this says.
    publish_host:
        Where Jupyter servers reach kernels over ports. When empty, the host in ``engine_url``, or 127.0.0.1 for an
        engine of this machine.
    publish_address:
        The address of the engine's machine that the kernels' ports are bound to, where ``publish_host`` is not one of
        its own, such as behind a translation of addresses. ``0.0.0.0`` is all of them.
    publish_ports:
        The range of ports to publish on, such as ``40000-40999``; a kernel takes six, one that is kept ready too. The
        engine picks from the system's own range when empty.
    python:
        The Python in the image that has ipykernel: a path, or a name found on the image's ``PATH``.
    kernel_names:
        The kernelspecs that a notebook may have named; all of them are run by ``python``.
    user:
        As whom kernels run. ``account`` is the person's own account on this machine, by the name that they are known
        by here, refused where there is none; ``server`` the account that the control plane runs as; ``1000:100`` one
        uid and group for all. Who enters the folder of a kernel's sockets is decided by it.
    shared_with_group:
        Lets the group of ``user`` reach the kernel's sockets as well (its umask is 0007 then): for a Jupyter server
        that runs under another account than the kernel and is in that group.
    allow_root:
        Without it nothing runs as uid 0, whatever ``user`` says. A container's root is the machine's root wherever a
        folder is mounted.
    mounts:
        The folders that kernels see.
    home:
        The kernel's ``HOME``, with ``{username}`` if need be; in the container's memory where it is no mount's.
    environment:
        Added to the image's own environment: proxies and the like. No secrets: a cell can read them.
    memory_mib:
        A kernel that uses more is ended, and its user told so. 0 sets no limit.
    cpus:
        How many cores a kernel may keep busy; libraries are told by ``OMP_NUM_THREADS``. 0 sets no limit.
    pids_max:
        How many processes and threads a kernel may have.
    tmpfs_mib:
        What ``/tmp`` holds. It is memory, and counts as the kernel's.
    shared_memory_mib:
        What ``/dev/shm`` holds, which data loaders use between their processes.
    network:
        ``none`` leaves the sockets to the Jupyter server as the only way out. ``rules`` is a network of the place's own
        on which kernels reach what ``network_allow`` lists; ComputeHub keeps its rules in this machine's firewall, so
        it runs as root or has the capability ``CAP_NET_ADMIN``. ``bridge``, or the name of a network that was made on
        the engine, with whatever rules it has, lets the kernel reach others.
    network_allow:
        With ``rules``: what kernels may reach, such as ``10.1.2.3:443``, ``192.0.2.0/24``, ``10.0.0.0/8:8000-8080`` or
        ``10.1.2.3:514/udp``. A port alone is one of TCP; without one all are meant. Names are no addresses: for
        packages and the like name a proxy here and in ``environment``. This machine itself, other containers and
        link-local addresses (169.254.0.0/16, a cloud's metadata) are reached by no kernel whatever is listed.
    network_deny:
        With ``rules``: written the same way, what is refused although ``network_allow`` has it.
    network_dns:
        With ``rules``: the addresses of the name servers that kernels may ask. Without any, no name resolves: who may
        ask a name server can send it things in the names.
    gpus:
        Whether the engine is asked for the leased GPUs. Simulated ones are never asked for.
    gpu_driver:
        The driver that the engine is asked for them with.
    runtime:
        The container runtime, as ``docker info`` lists it; empty for the engine's default.
    kernels_max:
        No more kernels than that at a time on this engine, standbys aside; 0 sets no limit.
    start_seconds_max:
        How long a kernel may take until it listens.
    engine_seconds_max:
        How long the engine may take for an answer until it counts as unreachable.
    sockets_folder:
        Where the folders of the kernels' sockets are made: a short path, since a socket's has at most 107 bytes, that
        the accounts of the Jupyter servers can enter and the engine sees under the same name. Empty picks one below
        ``/run`` for root, and for others one in the place's own folder or their runtime folder.
    warm_count:
        How many kernels are kept ready: one number for every model of this place's pools, or one by model, such as
        ``{"T4": 2, "A100": 1}``. One for a real GPU has the next of the model's that is free. One without serves any
        model that is only simulated: a number is that of all of these together, and numbers by model are added. There
        can be none for the rule ``account``. Personal mounts are mounted when somebody takes one, which takes Linux
        5.12 and root on the engine's machine; elsewhere kernels start on demand.
    warm_idle_seconds:
        When nobody wanted a model for so long its standbys go; they come back with the next who looks at a move to it
        or starts a kernel, and a little before a booking of it begins. 0 keeps them for good.
    warm_memory_mib_max:
        All standbys together use no more than that, and none is started for which that would not be enough.
    warm_replace_delay_seconds:
        How long after one was taken the next is started: the user's first cell runs meanwhile.
    warm_lifetime_seconds:
        A standby ends by itself when the control plane has not been heard of for so long.
    warm_age_seconds_max:
        After that a standby is replaced.
    """

    image: str
    pull: str = "never"
    engine_url: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    ssh_config: str = ""
    transport: str = "ipc"
    publish_host: str = ""
    publish_address: str = ""
    publish_ports: str = ""
    python: str = "python3"
    kernel_names: tuple[str, ...] = ("python3",)
    user: str = "server"
    shared_with_group: bool = False
    allow_root: bool = False
    mounts: tuple[Mount, ...] = ()
    home: str = "/tmp"
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_mib: int = 4096
    cpus: float = 0.0
    pids_max: int = 512
    tmpfs_mib: int = 512
    shared_memory_mib: int = 64
    network: str = "none"
    network_allow: tuple[str, ...] = ()
    network_deny: tuple[str, ...] = ()
    network_dns: tuple[str, ...] = ()
    gpus: bool = True
    gpu_driver: str = "nvidia"
    runtime: str = ""
    kernels_max: int = 0
    start_seconds_max: float = 60.0
    engine_seconds_max: int = 20
    sockets_folder: str = ""
    warm_count: int | Mapping[str, int] = 0
    warm_idle_seconds: float = 1800.0
    warm_memory_mib_max: int = 1024
    warm_replace_delay_seconds: float = 3.0
    warm_lifetime_seconds: float = 30.0
    warm_age_seconds_max: float = 3600.0

    def __post_init__(self) -> None:
        if not self.image:
            raise Invalid("A Docker place needs an image.", field="image")
        if self.pull not in ("never", "missing"):
            raise Invalid('"never" or "missing" would be right.', field="pull")
        if self.transport not in ("ipc", "curve"):
            raise Invalid('"ipc" or "curve" would be right.', field="transport")
        if self.uses_ports and not self.publish_host:
            host = remote.host_of(self.engine_url) if self.is_remote else "127.0.0.1"
            object.__setattr__(self, "publish_host", host)
        if not self.kernel_names:
            raise Invalid("A Docker place serves at least one kernelspec.", field="kernel_names")
        if self.user not in ("account", "server") and not _USER.fullmatch(self.user):
            raise Invalid('"account", "server" or a uid and a gid such as "1000:100" would be right.', field="user")
        if not _NETWORK.fullmatch(self.network) or self.network in ("host", "container"):
            # The machine's own network would reach whatever listens on its loopback, the control plane included.
            raise Invalid(
                '"none", "rules", "bridge" or the name of a network on the engine would be right.', field="network"
            )
        self._check_rules()
        self._check_warm()
        remote.check(self)
        if self.pids_max < 16:
            raise Invalid("A kernel needs about ten threads to start; 16 is the least.", field="pids_max")
        if 0 < self.memory_mib < 64:
            raise Invalid("A kernel needs about 50 MiB to start; 64 is the least.", field="memory_mib")
        if self.sockets_folder and not self.sockets_folder.startswith("/"):
            raise Invalid("The folder for sockets is an absolute path.", field="sockets_folder")

    def _check_warm(self) -> None:
        counts = self.warm_count.values() if isinstance(self.warm_count, Mapping) else [self.warm_count]
        if any(count < 0 for count in counts):
            raise Invalid("Fewer than no kernels can't be kept ready.", field="warm_count")
        for name, (least, right) in _LEAST_OF_WARM.items():
            value = getattr(self, name)
            if not math.isfinite(value) or value < least:
                raise Invalid(f"{name} is {right}; {value:g} is not.", field=name)
        if any(counts) and self.user == "account" and not self.is_remote:
            raise Invalid(
                "No kernels can be kept ready where they run as each person's own account: a process can't change "
                'whose it is. 0 would be right, or another user than "account".',
                field="warm_count",
            )

    def _check_rules(self) -> None:
        policy_of(self.network_allow, self.network_deny, self.network_dns)
        for name in ("network_allow", "network_deny", "network_dns"):
            if getattr(self, name) and self.network != RULES:
                raise Invalid(f'{name} says something with network "{RULES}" only.', field=name)
        if self.network == RULES and self.engine_url and not self.engine_url.startswith("unix://"):
            raise Invalid(
                "Rules are kept in this machine's firewall, and this place's engine is on another: the name of a "
                "network that was made there with rules of its own would be right.",
                field="network",
            )

    @property
    def is_remote(self) -> bool:
        """Whether the engine is on another machine: no folder is shared with it then."""
        return bool(self.engine_url) and not self.engine_url.startswith("unix:")

    @property
    def uses_ports(self) -> bool:
        """Whether kernels are reached over ports, encrypted, and not over sockets in a folder."""
        return self.is_remote or self.transport == "curve"

    @property
    def warm_count_least(self) -> int:
        """How many standbys there are at least, once the place has pools."""
        return sum(self.warm_count.values()) if isinstance(self.warm_count, Mapping) else self.warm_count

    @property
    def machine_of_gpus(self) -> str | None:
        """Whose GPUs it is that kernels are given: an address, empty for this machine, or None where they get none."""
        if not self.gpus:
            return None
        return self.engine_url if self.is_remote else ""

    def warm_count_of(self, *models: str) -> int:
        """How many standbys these models have together, where one serves any of them."""
        if isinstance(self.warm_count, Mapping):
            return sum(self.warm_count.get(model, 0) for model in models)
        return self.warm_count

    def check_models(self, models: Collection[str]) -> None:
        """Raise ``Invalid`` for what is said of a model that none of the place's pools has."""
        named = self.warm_count if isinstance(self.warm_count, Mapping) else ()
        if unknown := [model for model in named if model not in models]:
            has = f"there is {', '.join(sorted(models))}" if models else "it has no pool at all"
            raise Invalid(f"warm_count names {unknown[0]}, a model that no pool of it has; {has}.", field="warm_count")

    @property
    def threads(self) -> int | None:
        """What libraries that count the machine's cores are to be told instead."""
        return max(1, int(self.cpus)) if self.cpus else None
