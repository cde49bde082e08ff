"""Objectives without merges: formulas with a known optimum, and swarms of models already trained."""
