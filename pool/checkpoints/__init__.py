"""Models on disk, made here or elsewhere: safetensors only, verified, never quantised."""
