"""One training run of a model on a mixture by a recipe; after a kill it resumes."""
