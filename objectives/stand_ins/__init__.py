"""Objectives that merge nothing: formulas with a known optimum, tables of models already trained."""
