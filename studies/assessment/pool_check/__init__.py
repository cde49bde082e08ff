"""Whether a pool is likely to merge well, and a pool shown to people."""
