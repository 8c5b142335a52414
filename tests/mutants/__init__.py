"""Each safety test, shown to fail once with its guard removed: `make mutants`."""
