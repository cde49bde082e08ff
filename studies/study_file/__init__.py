"""The study file as checked values, and the configuration reference."""
