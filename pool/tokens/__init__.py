"""Documents become tokens on disk, made once and reused while nothing changes."""
