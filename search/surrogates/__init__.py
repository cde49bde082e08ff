"""Cheap predictions of the value of a mixture, with their uncertainty."""
