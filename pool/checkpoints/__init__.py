"""Models on disk, made here or elsewhere: safetensors only, verified; at the end made smaller."""
