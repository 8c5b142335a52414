"""What the settings of a place have to say where its engine is on another machine, checked before anything starts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from computehub_ext.core.errors import Invalid

from .network_rules import RULES
from .tunnel import parse

if TYPE_CHECKING:
    from .settings import DockerSettings

_TLS = ("tls_ca", "tls_cert", "tls_key")
_FORMS = "unix:///var/run/docker.sock, tcp://host:2376 or ssh://user@host"
_PORTS = re.compile(r"(\d{1,5})-(\d{1,5})")
PORTS_EACH = 6


def host_of(engine_url: str) -> str:
    """Return the host that an engine's address names. Raises ``Invalid``."""
    if engine_url.startswith("ssh://"):
        return parse(engine_url)[1]
    try:
        parts = urlsplit(engine_url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "tcp" or not parts.hostname or port is None or parts.path or parts.username or parts.query:
        raise Invalid(f"{_FORMS} would be right.", field="engine_url")
    return parts.hostname


def check(settings: DockerSettings) -> None:
    """Raise ``Invalid`` for what does not go together."""
    url = settings.engine_url
    for names, scheme in ((_TLS, "tcp://"), (("ssh_config",), "ssh://")):
        for name in names:
            if getattr(settings, name) and not url.startswith(scheme):
                raise Invalid(f"{name} says something for an engine at {scheme} only.", field=name)
            if getattr(settings, name) and not getattr(settings, name).startswith("/"):
                raise Invalid(f"{name} is an absolute path.", field=name)
    if settings.publish_ports:
        _check_ports(settings.publish_ports, settings.warm_count_least)
    if settings.is_remote:
        host_of(url)
        _check_remote(settings)
        return
    if url and not url.startswith("unix:///"):
        raise Invalid(f"{_FORMS} would be right.", field="engine_url")
    if settings.uses_ports:
        _check_published(settings)
        return
    for name in ("publish_host", "publish_address", "publish_ports"):
        if getattr(settings, name):
            raise Invalid(
                f'{name} says something for an engine on another machine, or for the transport "curve".', field=name
            )


def _check_published(settings: DockerSettings) -> None:
    if settings.network in ("none", RULES):
        raise Invalid(
            f'Over "curve" kernels are reached through ports, and on "{settings.network}" nobody reaches any: "bridge" '
            "or the name of a network on the engine would be right.",
            field="network",
        )
    if settings.shared_with_group:
        raise Invalid('Over "curve" there are no sockets to share with a group.', field="shared_with_group")


def _check_remote(settings: DockerSettings) -> None:
    if settings.engine_url.startswith("tcp://"):
        for name in _TLS:
            if not getattr(settings, name):
                raise Invalid(
                    "Who reaches an engine is root on its machine: over tcp:// both sides show certificates, and "
                    "tls_ca, tls_cert and tls_key name the files.",
                    field=name,
                )
    if settings.user in ("account", "server"):
        raise Invalid(
            'Accounts of another machine can\'t be looked up from here: a uid and a gid such as "1000:100" would be '
            "right for its kernels.",
            field="user",
        )
    if settings.user.partition(":")[0].strip("0") == "":
        # The folder with the time that is paid for is root's there, and mounted so that it can be written to.
        raise Invalid("No kernel runs as root on another machine.", field="user")
    if settings.network == "none":
        raise Invalid(
            'Kernels on another machine are reached through ports, and "none" has none: "bridge" or the name of a '
            "network on the engine would be right.",
            field="network",
        )
    for mount in settings.mounts:
        if "/" in mount.source.partition("{username}")[2].rstrip("/"):
            # Where a person may write they can put a link, which the engine follows as root; from here nobody sees it.
            raise Invalid(
                f"On another machine nothing may follow the folder with {{username}} in a mount's source, as in "
                f"{mount.source!r}: from there people could lead the engine to other folders.",
                field="mounts",
            )
    if settings.warm_count:
        raise Invalid("No kernels are kept ready on another machine's engine.", field="warm_count")


def _check_ports(ports: str, standbys: int) -> None:
    found = _PORTS.fullmatch(ports)
    first, last = (int(part) for part in found.groups()) if found else (0, 0)
    # Standbys would take all there are, and no kernel could start beside them.
    least = PORTS_EACH * (standbys + 1)
    if not 1024 <= first <= last - least + 1 or last > 65535:
        takes = f"a kernel takes {PORTS_EACH}" + (
            f", so that one beside {standbys} that are kept ready needs a range of {least}" if standbys else ""
        )
        raise Invalid(f"A range such as 40000-40999 would be right; {takes}.", field="publish_ports")
