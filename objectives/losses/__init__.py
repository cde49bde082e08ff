"""What a mixture is worth by held-out loss or downstream tasks, of its merge or of the model trained on it."""
