"""Accounts, journal entries, postings and holds. This wing has never heard of a GPU."""
