"""The right to a device for a time: placements, the meter, idle release, settlement."""
