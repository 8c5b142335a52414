"""Certificates for an engine of the tests and for who may use it, and others that are wrong in one way each."""

from __future__ import annotations

import subprocess
from pathlib import Path

_DAYS = "7"


def make(folder: Path, address: str) -> None:
    """Make what an engine that listens at ``address`` needs, as Docker's own manual has it made.

    In ``folder``: ``ca.pem``; ``server.pem`` and ``server-key.pem`` for the engine; ``cert.pem`` and ``key.pem`` for
    who may use it; ``other-ca.pem``, ``other-cert.pem`` and ``other-key.pem`` of somebody whom the engine does not
    know.
    """
    folder.mkdir(mode=0o700)
    for prefix in ("", "other-"):
        _openssl(
            *("req", "-new", "-x509", "-nodes", "-newkey", "rsa:2048", "-sha256", "-days", _DAYS),
            *("-subj", f"/CN={prefix}ca", "-addext", "keyUsage=critical,keyCertSign"),
            *("-keyout", str(folder / f"{prefix}ca-key.pem"), "-out", str(folder / f"{prefix}ca.pem")),
        )
    _sign(folder, "", "server", f"subjectAltName=IP:{address},DNS:engine.test\nextendedKeyUsage=serverAuth")
    _sign(folder, "", "", "extendedKeyUsage=clientAuth")
    _sign(folder, "other-", "other-", "extendedKeyUsage=clientAuth")


def _sign(folder: Path, authority: str, whose: str, extensions: str) -> None:
    if whose == "server":
        key, certificate = folder / "server-key.pem", folder / "server.pem"
    else:
        key, certificate = folder / f"{whose}key.pem", folder / f"{whose}cert.pem"
    request, extra = folder / "request.pem", folder / "extensions"
    extra.write_text(f"keyUsage=critical,digitalSignature\n{extensions}\n")
    _openssl(
        *("req", "-new", "-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={whose or 'client'}"),
        *("-keyout", str(key), "-out", str(request)),
    )
    _openssl(
        *("x509", "-req", "-sha256", "-days", _DAYS, "-in", str(request), "-out", str(certificate)),
        *("-CA", str(folder / f"{authority}ca.pem"), "-CAkey", str(folder / f"{authority}ca-key.pem")),
        *("-CAcreateserial", "-extfile", str(extra)),
    )


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
