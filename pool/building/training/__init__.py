"""One training run: a model, a mixture, a recipe; after a kill, the run resumes."""
