"""The Jupyter server extension: reads the administrator's settings and puts the parts together.

Light on import: the control plane, with SQLAlchemy and all wings, is opened after the first page was served, or by the
first request that needs it (see ``plane.LazyPlane``).
"""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir
from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Dict, Enum, Float, Int, List, TraitError, Unicode, default, validate

from computehub_ext import __version__
from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT
from computehub_ext.core.ratelimit import DEFAULT_RATE_LIMITS, RateLimits
from computehub_ext.core.settings import Settings
from computehub_ext.plane import LazyPlane, Opened, open_plane

OPEN_DELAY_SECONDS = 1.5


class ComputeHub(ExtensionApp):
    """Booked, billed GPU kernels for notebooks."""

    name = "computehub_ext"
    extension_url = "/computehub/"
    load_other_extensions = True

    database_url = Unicode(
        help="""Where accounts, bookings and leases are kept: ``sqlite:////path`` or ``postgresql+psycopg://...``.
        The default is a file in Jupyter's data folder. One server at a time runs the control plane on it."""
    ).tag(config=True)
    state_dir = Unicode(
        help="""Folder (mode 0700) of running GPU kernels' records. Must survive a restart of the server, but not of
        the machine. The default is in Jupyter's runtime folder."""
    ).tag(config=True)
    identity = Enum(
        ["auto", "owner", "person"],
        default_value="auto",
        help="""Who pays: ``owner`` is one account for the whole server, ``person`` one for each authenticated user
        name. ``auto`` is ``owner`` under Jupyter's token or password login, which knows no people, else ``person``.""",
    ).tag(config=True)
    admin_users = List(Unicode(), help="User names that may see and end everybody's leases.").tag(config=True)
    simulated = Enum(
        ["auto", "always", "never"],
        default_value="auto",
        help="""Simulated T4, V100 and A100 devices: ``auto`` has them where no NVIDIA GPU is found and no pool is
        configured. They are called simulated wherever they are shown.""",
    ).tag(config=True)
    places = Dict(
        key_trait=Unicode(),
        value_trait=Dict(),
        help="""Engines and clusters beside this machine, by name: ``{"gpu-server": {"kind": "docker", "image":
        "computehub/slim"}, "cluster": {"kind": "slurm", "gres": {"A100": "gpu:a100:{count}"}}}``. The settings of
        each kind are in the reference of places. A wrong one is named when the server starts.""",
    ).tag(config=True)
    pools = List(
        Dict(),
        help="""The devices of the places: ``[{"name": "A100 of the GPU server", "place": "gpu-server", "model":
        "A100", "devices": ["0", "1"], "rate_credits_per_hour": 4.0, "memory_mib": 81920}]``. ``devices`` is how many
        there are, or the ids by which the place knows each. What this machine has is found by itself.""",
    ).tag(config=True)
    welcome_credits = Float(
        10.0, min=0, help="Granted once to each new person; 1 credit is an hour of the reference device. 0 grants none."
    ).tag(config=True)
    allowance_per_day_credits = Float(
        5.0,
        min=0,
        help="""What notebooks may put on hold without asking, in any 24 hours, until the person sets their own.
        0 asks in the browser each time.""",
    ).tag(config=True)
    default_duration_seconds = Int(
        7200, min=300, help="Length of a lease when nobody says; less when the money lasts for less."
    ).tag(config=True)
    max_duration_seconds = Int(86_400, min=300, help="The longest lease or booking; a longer one is refused.").tag(
        config=True
    )
    max_ahead_days = Int(60, min=1, help="How far ahead a booking may start.").tag(config=True)
    max_count = Int(8, min=1, help="The most devices in one booking.").tag(config=True)
    closing_reserve_seconds = Int(
        60,
        min=1,
        help="""The last part of every slot, kept for moving the notebook back, so that the next person starts on
        time. A lease's cells run until this long before its end.""",
    ).tag(config=True)
    idle_timeout_seconds = Int(
        1200,
        min=60,
        help="""A GPU on which no cell ran for this long is given back, with a warning before. A person may choose
        another time up to ``idle_timeout_max_seconds`` for a lease.""",
    ).tag(config=True)
    idle_timeout_max_seconds = Int(7200, min=60, help="The longest idle time that a person may choose.").tag(
        config=True
    )
    paid_horizon_seconds = Int(
        600,
        min=30,
        help="""How far ahead a running lease is paid. A kernel outlives a dead control plane by at most this, and is
        billed for it. Longer survives longer restarts; shorter costs less after a crash that nobody mends.""",
    ).tag(config=True)
    tick_seconds = Float(5.0, min=0.1, help="How often leases are metered, paid ahead and reconciled.").tag(config=True)
    warm_kernels = Int(
        1,
        min=0,
        help="""GPU kernels kept started for the next lease, so that it begins at once. Nobody is billed for them; each
        takes about 70 MiB of memory. 0 keeps none.""",
    ).tag(config=True)
    warm_idle_seconds = Float(
        1800.0,
        min=0.0,
        help="""When nobody wanted a GPU of this machine for so long, the kernels that are kept started go. They come
        back when somebody looks at a move or starts one, and a little before a booking. 0 keeps them for good.""",
    ).tag(config=True)
    rate_limits = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""How often one person may ask, by class of route: ``read``, ``write``, and both as ``kernel-read`` and
        ``kernel-write`` from notebooks, like ``120/minute``. Who asks more often is told when to come back. A class
        that is not named has no limit.""",
    ).tag(config=True)
    end_leases_on_stop = Bool(
        False,
        help="""What stopping the server does to running leases: False lets kernels and bills go on, for a restart;
        True settles and ends those of its own notebooks, as the demo does on Ctrl-C.""",
    ).tag(config=True)

    @default("database_url")
    def _default_database_url(self) -> str:
        return f"sqlite:///{Path(jupyter_data_dir()) / 'computehub' / 'computehub.sqlite'}"

    @default("state_dir")
    def _default_state_dir(self) -> str:
        return str(Path(jupyter_runtime_dir()) / "computehub")

    @default("rate_limits")
    def _default_rate_limits(self) -> dict[str, str]:
        return dict(DEFAULT_RATE_LIMITS)

    @validate("rate_limits")
    def _limits_can_be_read(self, proposal: Any) -> dict[str, str]:
        try:
            RateLimits(proposal["value"])
        except ValueError as error:
            raise TraitError(f"ComputeHub.rate_limits: {error}.") from error
        return cast(dict[str, str], proposal["value"])

    @validate("closing_reserve_seconds")
    def _reserve_fits(self, proposal: Any) -> int:
        if proposal["value"] >= Settings.min_duration.total_seconds():
            most = int(Settings.min_duration.total_seconds()) - 1
            raise TraitError(f"ComputeHub.closing_reserve_seconds must be at most {most}, or leases would only close.")
        return cast(int, proposal["value"])

    def rules(self) -> Settings:
        """The chosen settings as the domain takes them."""
        return Settings(
            welcome_microcredits=round(self.welcome_credits * MICROCREDITS_PER_CREDIT),
            allowance_per_day_microcredits=round(self.allowance_per_day_credits * MICROCREDITS_PER_CREDIT),
            default_duration=timedelta(seconds=self.default_duration_seconds),
            max_duration=timedelta(seconds=self.max_duration_seconds),
            max_ahead=timedelta(days=self.max_ahead_days),
            max_count=self.max_count,
            closing_reserve=timedelta(seconds=self.closing_reserve_seconds),
            idle_timeout=timedelta(seconds=self.idle_timeout_seconds),
            idle_timeout_max=timedelta(seconds=self.idle_timeout_max_seconds),
            paid_horizon=timedelta(seconds=self.paid_horizon_seconds),
        )

    # --- Jupyter's hooks ------------------------------------------------------------------------------------------

    def _link_jupyter_server_extension(self, serverapp: Any) -> None:
        from computehub_ext.notebook import wiring

        try:
            super()._link_jupyter_server_extension(serverapp)
        except TraitError as error:
            raise _not_started(error) from None
        wiring.link(serverapp)
        # What is imported stays. To look through it for garbage once more, which our own objects would bring about,
        # takes 80 ms of the first page, and as long of some request later on.
        gc.freeze()

    def initialize_settings(self) -> None:
        from computehub_ext.api import identity

        assert self.serverapp is not None, "Jupyter links the extension before it loads it"
        if self.places or self.pools:
            from computehub_ext.places import check

            try:
                check(self.places, self.pools)
            except Exception as error:  # whatever somebody wrote there
                raise _not_started(f"ComputeHub.places and ComputeHub.pools: {error}") from error
        who = identity.mode(self.serverapp.identity_provider, self.identity)
        self.plane = LazyPlane(lambda: self._open(who), log=self.log)
        self.settings["computehub_plane"] = self.plane
        # The panel reads from the page that its server is there, so that elsewhere it asks nothing.
        self.serverapp.web_app.settings.setdefault("page_config_data", {})["computehub"] = __version__

    def initialize_handlers(self) -> None:
        from computehub_ext import api
        from computehub_ext.notebook import wiring

        wiring.setup(self.serverapp, self.plane)
        assert self.serverapp is not None, "Jupyter links the extension before it loads it"
        api.register(
            self.serverapp,
            self.plane,
            identity=self.identity,
            admins=self.admin_users,
            rate_limits=self.rate_limits,
        )

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        # The first page comes first: opening imports SQLAlchemy and takes a core for half a second.
        asyncio.get_running_loop().call_later(OPEN_DELAY_SECONDS, self.plane.open_soon)

    async def stop_extension(self) -> None:
        from computehub_ext.notebook import wiring

        assert self.serverapp is not None, "only an extension that was linked is stopped"
        if not hasattr(self, "plane"):
            return  # it failed while it was loaded, which Jupyter has logged
        # A second server on this database goes on, and so do its leases.
        kernel_ids = self.serverapp.kernel_manager.list_kernel_ids()
        await wiring.stop(self.serverapp, end_leases=self.end_leases_on_stop)
        await self.plane.close(end_leases=self.end_leases_on_stop, kernel_ids=kernel_ids)

    def _open(self, who: str) -> Opened:
        """Build or find the control plane; runs in a thread."""
        return open_plane(
            database_url=self.database_url,
            state_dir=Path(self.state_dir),
            settings=self.rules(),
            identity=who,
            simulated=self.simulated,
            warm_kernels=self.warm_kernels,
            warm_idle_seconds=self.warm_idle_seconds,
            tick_seconds=self.tick_seconds,
            places=self.places,
            pools=self.pools,
        )


def _not_started(why: object) -> SystemExit:
    """What ends the server: any other exception Jupyter would log, and go on without ComputeHub or with its defaults.
    People would find other GPUs at other prices or none, and later an exam no lock."""
    return SystemExit(f"ComputeHub is not started, and so the server is not: {why}")


main = ComputeHub.launch_instance
