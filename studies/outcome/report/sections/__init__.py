"""One section a file, the same parts in the same order."""
