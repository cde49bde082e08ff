"""Benchmarks of strategies and the gate on formulas with a known optimum."""
