"""The pytest plugins of this project; the fixtures are in tests/conftest.py and beside the tests that use them."""

pytest_plugins = ["tests.support.needs", "tests.support.outcomes", "tests.support.parsing"]
