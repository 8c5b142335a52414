"""The kernel's provisioner: Jupyter starts, signals and ends the kernel through it, wherever that kernel is."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import KernelProvisionerBase

from computehub_ext.core.errors import Refused
from computehub_ext.notebook.places import CpuPlace, LeasedPlace, Place

SECRET_NAMES = ("JUPYTERHUB_*", "JPY_API_TOKEN", "*_TOKEN", "*_SECRET", "*_PASSWORD", "*_API_KEY")
OURS = ("COMPUTEHUB_URL", "COMPUTEHUB_KERNEL_TOKEN", "COMPUTEHUB_KERNEL_ID")
CARRIED = ("JPY_SESSION_NAME", "LANG", "LC_*", "TZ", "COMPUTEHUB_TIME_ZONE", "MPLBACKEND", *OURS)
"""What a leased kernel gets of its notebook's environment. Its place has its own rest: this machine's paths would be
wrong there, and what gives power over this server must not leave it (DESIGN, decision 8)."""


def leased_environment(env: dict[str, str], spec_env: dict[str, str]) -> dict[str, str]:
    """Choose what goes along to a leased kernel: a short list, and what the kernelspec sets for every kernel."""

    def is_secret(name: str) -> bool:
        return name not in OURS and any(fnmatch.fnmatchcase(name, pattern) for pattern in SECRET_NAMES)

    carried = {name: value for name, value in env.items() if any(fnmatch.fnmatchcase(name, p) for p in CARRIED)}
    carried.update({name: env.get(name, value) for name, value in spec_env.items()})
    return {name: value for name, value in carried.items() if not is_secret(name)}


class SwitchProvisioner(KernelProvisionerBase):
    """Holds the place where the kernel runs, and lets a switch put another in its stead."""

    place: Place | None = None

    @property
    def manager(self) -> Any:
        return self.parent

    @property
    def folder(self) -> Path:
        """Where places keep their connection files: not where ``jupyter console --existing`` looks."""
        return Path(self.manager.connection_file).parent / "computehub"

    @property
    def has_process(self) -> bool:
        return self.place is not None and self.place.started

    async def poll(self) -> int | None:
        return 0 if self.place is None else await self.place.poll()

    async def wait(self) -> int | None:
        return 0 if self.place is None else await self.place.wait()

    async def send_signal(self, signum: int) -> None:
        if self.place is not None:
            await self.place.send_signal(signum)

    async def kill(self, restart: bool = False) -> None:
        if self.place is not None:
            await self.place.end()

    async def terminate(self, restart: bool = False) -> None:
        if self.place is not None:
            await self.place.send_signal(15)

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        spec = self.kernel_spec
        if spec.metadata.get("computehub", {}).get("needs_lease") and self.manager.lease_id is None:
            raise Refused(
                f"“{spec.display_name}” needs a GPU lease, so nothing was started or charged.\n"
                "Choose the kernel Python 3 and run the magic command “gpu on” in a cell:\n"
                "the notebook then moves to a GPU with its variables."
            )
        kwargs.pop("transport_encryption", None)
        self.manager.open_relay(jupyter_session=kwargs.get("env", {}).get("JPY_SESSION_NAME", ""))
        self.connection_info = self.manager.get_connection_info()
        extra_arguments = kwargs.pop("extra_arguments", [])
        kwargs = await super().pre_launch(**kwargs)
        kwargs["cmd"] = self.manager.format_kernel_cmd(extra_arguments=extra_arguments)
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start where the kernel belongs now: on its lease if it has one, here otherwise."""
        if self.manager.lease_id is not None:
            self.place = await self.new_leased_place(self.manager.lease_id)
        else:
            self.place = CpuPlace(self.manager, self.folder)
            await self.place.start(cmd, **_for_popen(kwargs))
        self.manager.place_changed()
        return self.connection_info

    async def new_cpu_place(self) -> CpuPlace:
        """Start a fresh kernel here, beside the one in place."""
        kwargs = await super().pre_launch(**self._launch_arguments())
        place = CpuPlace(self.manager, self.folder)
        await place.start(self.manager.format_kernel_cmd(), **_for_popen(kwargs))
        return place

    async def new_leased_place(self, lease_id: str) -> LeasedPlace:
        """Start a kernel on the lease, beside the one in place."""
        kwargs = await super().pre_launch(**self._launch_arguments())
        place = await LeasedPlace.start(
            self.manager.plane,
            lease_id,
            cwd=str(kwargs.get("cwd") or os.getcwd()),
            kernel_name=self.manager.kernel_name,
            session_key=self.manager.session.key,
            username=self.manager.payer or "",
            env=leased_environment(kwargs["env"], self.kernel_spec.env),
        )
        self.manager.kernels.open_door(place)
        return place

    def _launch_arguments(self) -> dict[str, Any]:
        arguments = self.manager.launch_arguments
        for name in ("extra_arguments", "transport_encryption", "kernel_id"):
            arguments.pop(name, None)
        arguments.setdefault("env", dict(os.environ))
        return arguments

    def swap(self, place: Place) -> Place | None:
        """Put another place in the stead of this one, which is returned and goes on."""
        before, self.place = self.place, place
        return before

    async def cleanup(self, restart: bool = False) -> None:
        if not restart:
            await self.manager.left()

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        return recommended

    def resolve_path(self, path: str) -> str | None:
        found = Path(path).expanduser()
        if not found.is_absolute():
            found = Path(str(self.manager.launch_arguments.get("cwd") or os.getcwd())) / found
        return found.resolve().as_posix() if found.exists() else None


def _for_popen(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in ("extra_arguments", "kernel_id")}
