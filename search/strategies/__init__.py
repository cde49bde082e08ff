"""Who proposes the next mixture: ways to make an Optuna sampler, with the same parts in the same order."""
