"""Surrogates: cheap predictions of what a mixture is worth, one file each."""
