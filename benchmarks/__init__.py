"""Every promised figure beside its yardstick's, from the same run: `make bench`.

A module of this package measures one thing. Its ``run() -> list[Figure]`` is called by ``python -m benchmarks``; it
prints what it finds as well when it is run by itself.
"""
