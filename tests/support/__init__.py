"""Plugins and helpers of the tests."""
