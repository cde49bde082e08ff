"""Source files become documents in partitions and in held-out splits."""
