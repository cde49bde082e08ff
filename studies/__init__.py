"""A question asked once, kept, resumed and reported: the floor that people touch.

This package imports `search`, `objectives` and `pool`.
"""
