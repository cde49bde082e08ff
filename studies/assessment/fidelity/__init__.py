"""Does the merge stand for training here; what training would give."""
