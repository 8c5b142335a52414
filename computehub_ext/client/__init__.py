"""The control plane as others call it: in this process, or that of the first server on the same data.

edge            one transaction in one bounded thread, as one person
people, bookings, leases, notebooks     the calls, by what they are about
control_plane   all of them, and its life
remote          the same calls over a private socket
"""
