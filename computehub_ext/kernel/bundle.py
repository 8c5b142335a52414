"""The kernel side as one string of code, for the server to run silently in a kernel.

``source()`` is an expression statement: it defines no name in the user's namespace. Running it again costs a look at
``sys.meta_path``; running a newer one replaces the older. The modules are compiled when first imported.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import zlib
from pathlib import Path

from computehub_ext.kernel import installer

# These run beside a kernel or on the server, not in it.
LEFT_OUT = frozenset({"bundle", "installer", "supervisor", "standby", "launcher"})

PYTHON_MINIMUM = (3, 9)
"""Of the kernels that it can be sent into."""

_HERE = Path(__file__).parent


def sources() -> dict[str, str]:
    """The bundled modules: full name in the kernel -> source text."""
    found = {installer.PACKAGE: (_HERE / "__init__.py").read_text(encoding="utf-8")}
    for path in sorted(_HERE.glob("*.py")):
        if path.stem != "__init__" and path.stem not in LEFT_OUT:
            found[f"{installer.PACKAGE}.{path.stem}"] = path.read_text(encoding="utf-8")
    return found


@functools.lru_cache(maxsize=1)
def source() -> str:
    """Code that installs ``_computehub`` in the kernel that runs it."""
    text = json.dumps(sources(), sort_keys=True)
    installer_text = Path(installer.__file__).read_text(encoding="utf-8")
    version = hashlib.sha256((installer_text + text).encode()).hexdigest()[:12]
    payload = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    packed_installer = base64.b64encode(zlib.compress(installer_text.encode(), 9)).decode()
    # The first line answers for a kernel that has this version already, without unpacking anything.
    return (
        "None if any(getattr(_f, 'computehub_finder', False) and _f.version == "
        f"{version!r} for _f in __import__('sys').meta_path) else "
        "(lambda _ns: (exec(compile(__import__('zlib').decompress(__import__('base64').b64decode("
        f"{packed_installer!r})), '<computehub installer>', 'exec', dont_inherit=True), _ns), "
        f"_ns['install']({version!r}, {payload!r}), None)[-1])({{'__name__': '_computehub_installer'}})\n"
    )
