"""Strategies: each is a way to make an Optuna sampler, one file each, with the same parts in the same order."""
