"""The ways to an engine: a socket of this machine, TCP under TLS, SSH. Each gives a client that speaks its API."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computehub_ext.core.errors import Unreachable

from .settings import DockerSettings
from .tunnel import Tunnel

if TYPE_CHECKING:
    from docker import APIClient

_DEFAULT_URL = "unix:///var/run/docker.sock"
_CONNECTIONS_MAX = 32
# What OpenSSL says, or the other side says to it, and which setting that is about.
_TLS = (
    ("hostname mismatch", "its certificate is another host's than engine_url names"),
    ("ip address mismatch", "its certificate is another address's than engine_url names"),
    ("certificate has expired", "its certificate has expired"),
    ("certificate verify failed", "its certificate is not one of tls_ca's"),
    ("wrong version number", "no TLS is spoken there; engine_url has another port's number"),
    ("unknown ca", "it does not know who signed the certificate in tls_cert"),
    ("certificate required", "it wants a certificate, and does not take the one in tls_cert"),
    ("bad certificate", "it does not take the certificate in tls_cert"),
    ("certificate expired", "the certificate in tls_cert has expired"),
    ("key values mismatch", "tls_key is not the key of the certificate in tls_cert"),
)


class Access(ABC):
    """One way. Methods may be called from several threads."""

    url: str
    is_elsewhere = True

    @abstractmethod
    def make_client(self, seconds_max: int) -> APIClient:
        """Make a client of the engine, which is asked for its version."""

    def check(self) -> None:  # noqa: B027 - most have nothing to see to
        """See to it that the way is open. Raises ``OSError`` or ``Unreachable``."""

    def why(self, problem: Exception) -> str:
        """Return what is known of a failure on it, as the end of a sentence."""
        return ""

    def close(self) -> None:  # noqa: B027
        """Let go of it."""


def access_of(settings: DockerSettings, folder: Path) -> Access:
    """Return the way that the settings name. ``folder`` is private, and made if it is needed."""
    if settings.engine_url.startswith("tcp://"):
        return OverTls(settings)
    if settings.engine_url.startswith("ssh://"):
        return OverSsh(settings, folder)
    return Local(settings.engine_url)


class Local(Access):
    """A socket of this machine."""

    is_elsewhere = False

    def __init__(self, url: str = "") -> None:
        self.url = url or _DEFAULT_URL

    def check(self) -> None:
        if not os.path.exists(self.url.removeprefix("unix://")):
            raise FileNotFoundError(self.url)  # which every caller translates; the SDK would leave a socket open

    def make_client(self, seconds_max: int) -> APIClient:
        return _client(self.url, seconds_max)


class OverTls(Access):
    """TCP. Both sides show certificates, and who signed them is in the settings, nowhere else."""

    def __init__(self, settings: DockerSettings) -> None:
        self.url = settings.engine_url
        self._files = {name: getattr(settings, name) for name in ("tls_ca", "tls_cert", "tls_key")}

    def check(self) -> None:
        for name, path in self._files.items():
            if not os.access(path, os.R_OK):
                raise Unreachable(f"{path} can't be read, which {name} names.", field=name, engine=self.url)

    def make_client(self, seconds_max: int) -> APIClient:
        from docker.tls import TLSConfig

        ca, certificate, key = self._files.values()
        return _client(self.url, seconds_max, TLSConfig((certificate, key), ca, verify=True))

    def why(self, problem: Exception) -> str:
        said = re.sub(r"[_ ]+", " ", str(problem)).lower()
        return next((sentence for part, sentence in _TLS if part in said), "")


class OverSsh(Access):
    """A socket of the engine's machine, reached through the system's ssh."""

    def __init__(self, settings: DockerSettings, folder: Path) -> None:
        self.url = settings.engine_url
        self._tunnel = Tunnel(settings.engine_url, settings.ssh_config, settings.engine_seconds_max, folder)

    def check(self) -> None:
        self._tunnel.keep_open()

    def make_client(self, seconds_max: int) -> APIClient:
        return _client(f"unix://{self._tunnel.path}", seconds_max)

    def why(self, problem: Exception) -> str:
        return self._tunnel.complaint()

    def close(self) -> None:
        self._tunnel.close()


def _client(url: str, seconds_max: int, tls: Any = False) -> APIClient:
    from docker import APIClient

    class Client(APIClient):
        def merge_environment_settings(self, *arguments: Any, **named: Any) -> Any:
            # What the environment says of proxies and of whom to trust (REQUESTS_CA_BUNDLE) is meant for the Internet,
            # and would be taken instead of tls_ca.
            self.trust_env = False
            return super().merge_environment_settings(*arguments, **named)

    return Client(url, version="auto", timeout=seconds_max, tls=tls, max_pool_size=_CONNECTIONS_MAX)
