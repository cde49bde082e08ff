"""Where in the mixture space to look next, and what to prune before any merge.

This package imports `objectives` and `pool`; it is handed an `Objective` and never learns that models exist.
"""
