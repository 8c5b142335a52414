"""Where a kernel can run. One contract over a ``StartRequest``; a backend has never heard of a lease or of credits."""
