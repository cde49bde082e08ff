"""The cost of an evaluation, of holding members, and of shortcuts."""
