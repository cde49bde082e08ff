"""The ground floor: a corpus in partitions, one seed checkpoint, one trained member per partition.

This package imports nothing of the other three.
"""
