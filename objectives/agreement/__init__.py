"""How far a proxy stands for the ground truth: figures, intervals, noise and correction."""
