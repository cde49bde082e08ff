"""A search under way: planned, advanced by one worker or several, tracked."""
