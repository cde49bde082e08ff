"""Models on disk, ours and those others made: safetensors only, nothing missing, left over or quantised."""
