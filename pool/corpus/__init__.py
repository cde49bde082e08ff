"""From source files to documents in partitions and held-out splits."""
