"""Contract suites, fakes and helpers for those who add a backend or a store."""
