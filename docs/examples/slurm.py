"""The tour in jobs of a Slurm cluster: ``make demo CONFIG=docs/examples/slurm.py``, where ``sinfo`` works.

It goes to the cluster that Slurm's own commands would ask, so $SLURM_CONF counts. As it stands it fits the one that
``python -m computehub_ext.testing.slurm_cluster`` starts. What the settings mean is in docs/how-to/slurm.md.
"""

c = get_config()  # noqa: F821 - Jupyter gives it to each file of settings

c.ComputeHub.places = {
    "slurm": {
        "kind": "slurm",
        # What your cluster calls a GPU: `sinfo --noheader --format=%G`. Its "partition" and "account" go here as well.
        "gres": {"T4": "gpu:t4:{count}", "A100": "gpu:a100:{count}"},
        "memory_mib": 1000,
    },
}
c.ComputeHub.pools = [
    {
        "name": "T4 of the cluster",
        "place": "slurm",
        "model": "T4",
        "devices": 4,
        # The test cluster's are none. Leave this out where yours are.
        "simulated": True,
        "rate_credits_per_hour": 1.0,
    },
    {
        "name": "A100 of the cluster",
        "place": "slurm",
        "model": "A100",
        "devices": 8,
        "simulated": True,
        "rate_credits_per_hour": 4.0,
    },
]
