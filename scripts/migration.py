"""Write the next migration from what changed in the wings' tables: ``python scripts/migration.py "add exams"``.

Read what it wrote before committing it: alembic sees columns, indexes and constraints, not what becomes of the rows,
and no changed check.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    from alembic import command

    from computehub_ext.core.database import Database
    from computehub_ext.core.migrations import configured
    from computehub_ext.testing.stores import import_every_store

    import_every_store()
    versions = ROOT / "computehub_ext" / "core" / "migrations" / "versions"
    number = 1 + max((int(path.name[:4]) for path in versions.glob("[0-9]*.py")), default=0)
    with tempfile.TemporaryDirectory() as folder, Database(f"sqlite:///{folder}/new.db") as database:
        database.migrate()
        database.write(
            lambda unit: command.revision(
                configured(unit.connection), message=sys.argv[1], rev_id=f"{number:04}", autogenerate=True
            )
        )
    written = next(versions.glob(f"{number:04}_*.py"))
    # Our column type is an integer to the database; a migration stays true when the type's module moves.
    text = re.sub(r"computehub_ext\.core\.tables\.UtcDateTime\(\)", "sa.BigInteger()", written.read_text())
    written.write_text(re.sub(r" *# ### .* ###\n", "", text))
    for tidy in (["format"], ["check", "--fix"]):
        subprocess.run([sys.executable, "-m", "ruff", *tidy, "--quiet", str(written)], check=True)
    print(written.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
