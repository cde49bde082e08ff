"""How far merges stand for training, and what training would give."""
