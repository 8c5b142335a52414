"""Who uses this, what their kernels may spend unasked, and what they approved beyond it."""
