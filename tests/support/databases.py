"""The kinds of database that we promise, as marks for the fixture ``database``."""

import pytest

_POSTGRES = pytest.param("postgres", marks=pytest.mark.needs("postgresql"))

EVERY_DATABASE = pytest.mark.parametrize("database", ["memory", "file", _POSTGRES], indirect=True)
REAL_DATABASES = pytest.mark.parametrize("database", ["file", _POSTGRES], indirect=True)
