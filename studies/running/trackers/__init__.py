"""Where the progress of a search is also written, for those who look at many runs in one place."""
