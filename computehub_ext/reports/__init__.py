"""Usage and cost, joined from ledger, leases and pools."""
