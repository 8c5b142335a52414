"""What an administrator chooses about a cluster."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from computehub_ext.core.errors import Invalid

from ..environment import PASSED_ON

JOB_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_JOB_GPUS",
    "SLURM_JOB_PARTITION",
    "SLURM_CPUS_ON_NODE",
    "SLURM_MEM_PER_NODE",
    "SLURMD_NODENAME",
)
_LINE = re.compile(r"[^\r\n\0]*")


@dataclass(frozen=True)
class SlurmSettings:
    """How jobs are submitted and how they find their way back.

    Parameters
    ----------
    spool:
        A private folder on a file system that this machine and the nodes share: a job's token lies there until the job
        reads it, and what it wrote before its kernel ran. Empty means ``spool`` in the state folder, for a cluster that
        is this machine. With ``submit_command`` the folder is ``~/.computehub/slurm`` of each user instead.
    listen_host, listen_port:
        Where jobs reach the control plane. Port 0 takes a free one, once: a later start takes the same again.
    address:
        What jobs are told to connect to, ``HOST`` or ``HOST:PORT``, where that differs; a proxy or the name of this
        machine in the cluster's own network.
    partition, account, qos, constraint, reservation:
        Passed to ``sbatch`` as they are; empty leaves them to the cluster. Another account of the same cluster is
        another place, with a pool of its own.
    gres:
        What a model is called in Slurm, ``{"A100": "gpu:a100:{count}"}``; ``{"CPU": ""}`` asks for no device, as for a
        pool of CPUs. The server does not start with a pool whose model is neither named here nor covered by
        ``default_gres``: its kernels would be billed and have no GPU. Simulated pools need none.
    default_gres:
        The same for every model that ``gres`` does not name.
    cpus, memory_mib:
        Of one job; 0 leaves them to the cluster's own default. ``OMP_NUM_THREADS`` says the same to the kernel.
    time_limit_minutes:
        How long a job may live at most, since a user's job can't be given more later. Slurm ends it then, whatever is
        paid for; a booking that is longer makes it longer. An extension beyond it is refused.
    time_margin_minutes:
        Added to what was booked at the start, where that is more than the limit.
    booking_lead_minutes:
        How long before a booking starts its job is submitted, which then holds the GPUs and waits for the kernel. What
        it holds early costs nobody anything. 0 submits no job before somebody wants a kernel, and then a booking costs
        from its start as if nobody but the calendar handed GPUs out.
    modules, module_paths, prologue:
        ``module load`` these in a login shell, after ``module use`` of folders that have more of them; then lines of
        shell run before the kernel. What they set, the kernel sees. No secrets: a job script can be read by others.
    kernels:
        Names of kernels and the Python that runs each, as the nodes see it. Each has ipykernel 7.4 or newer. The first
        one is also what the job itself is started with.
    container:
        Put before the Python, ``("apptainer", "exec", "--nv", "--bind", "/shared", "/shared/torch.sif")``. It needs a
        /tmp, the host's network, the spool and the notebooks' folders.
    sbatch_arguments:
        Whatever else ``sbatch`` should be told, ``("--container-image=...",)`` with Pyxis, ``("--exclusive",)``.
    immediate:
        Run jobs by ``srun``, which Slurm starts at once, where it starts a batch job when its next second begins. Each
        holds some megabytes on this machine while it runs. Not with ``submit_command``.
    submit_command:
        Runs ``computehub_ext/backends/slurm/submit.py`` as the person, ``("sudo", "-n", "-H", "-u", "{user}",
        "/opt/computehub/slurm-submit")``. Empty submits as whoever runs the control plane.
    account_name:
        The person's name on the cluster, ``{username}`` being the one here.
    slurm_conf:
        The cluster's configuration where it is not in its usual place.
    environment:
        Added to what a job has by itself, for every kernel.
    environment_names:
        What of the job's own environment a kernel gets, beside what ``modules`` and ``prologue`` set there; names that
        look like a secret's are left out even so.
    pending_seconds_max:
        How long a job may wait in the queue before it is taken back.
    listen_seconds_max:
        How long a kernel may take to listen once its job runs.
    command_seconds_max:
        How long a command of Slurm's may take before the cluster counts as unreachable.
    lost_seconds:
        Without a sign of life for so long, Slurm is asked what became of the job.
    fence_command:
        Run with ``{node}`` for a node that Slurm calls dead, before what ran there counts as gone. It succeeds when the
        node is switched off. Without one it counts as gone when what was paid for has run out.
    """

    spool: str = ""
    listen_host: str = "0.0.0.0"
    listen_port: int = 0
    address: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    gres: Mapping[str, str] = field(default_factory=dict)
    default_gres: str = ""
    cpus: int = 1
    memory_mib: int = 0
    time_limit_minutes: int = 12 * 60
    time_margin_minutes: int = 5
    booking_lead_minutes: float = 10.0
    modules: tuple[str, ...] = ()
    module_paths: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    kernels: Mapping[str, str] = field(default_factory=lambda: {"python3": sys.executable})
    container: tuple[str, ...] = ()
    sbatch_arguments: tuple[str, ...] = ()
    immediate: bool = False
    submit_command: tuple[str, ...] = ()
    account_name: str = "{username}"
    slurm_conf: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_names: tuple[str, ...] = (*PASSED_ON, *JOB_VARIABLES)
    pending_seconds_max: float = 60.0
    listen_seconds_max: float = 60.0
    command_seconds_max: float = 10.0
    lost_seconds: float = 4.0
    fence_command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.kernels:
            raise Invalid("A cluster without a kernel's Python runs nothing; name one.", field="kernels")
        if self.time_limit_minutes < 1:
            raise Invalid("A job needs a time limit of at least a minute.", field="time_limit_minutes")
        if self.time_margin_minutes < 0:
            raise Invalid("A job can't end before what was booked: 0 or more.", field="time_margin_minutes")
        if not 0 <= self.booking_lead_minutes <= 24 * 60:
            raise Invalid(
                "A booking's job is submitted 0 minutes to a day before it starts.", field="booking_lead_minutes"
            )
        if self.submit_command and not any("{user}" in part for part in self.submit_command):
            raise Invalid(
                "submit_command has no {user}, so that every job would be the same user's.", field="submit_command"
            )
        if self.submit_command and self.immediate:
            raise Invalid("immediate is for jobs of one's own, not with submit_command.", field="immediate")
        if self.module_paths and not self.modules:
            raise Invalid("module_paths says where modules are, and none is named.", field="modules")
        for name in ("modules", "module_paths", "prologue", "container", "sbatch_arguments"):
            if isinstance(getattr(self, name), str):
                raise Invalid(f"{name} is a list of texts, not one text.", field=name)
            if not all(_LINE.fullmatch(line) for line in getattr(self, name)):
                raise Invalid(f"Each of {name} is one line.", field=name)
        for model, gres in {**self.gres, "": self.default_gres}.items():
            try:
                gres.format(count=1)
            except (KeyError, IndexError, ValueError) as problem:
                raise Invalid(
                    f"The gres of {model!r} may hold {{count}} and no other braces.", field="gres"
                ) from problem

    def check_model(self, model: str) -> None:
        """Refuse a pool's model of which nobody said what it is in Slurm: its jobs would ask for no GPU.

        Raises
        ------
        Invalid
            It says what would be right.
        """
        if model in self.gres or self.default_gres:
            return
        called = re.sub(r"[^a-z0-9._-]+", "_", model.lower())
        raise Invalid(
            f"gres does not say what Slurm calls {model}, so that its kernels would be billed and have no GPU. Right "
            f'would be {{"{model}": "gpu:{called}:{{count}}"}}, or {{"{model}": ""}} for a pool without GPUs.',
            field="gres",
        )

    def gres_for(self, model: str, count: int) -> str:
        """Return what to ask Slurm for, or nothing."""
        return self.gres.get(model, self.default_gres).format(count=count) if count else ""
