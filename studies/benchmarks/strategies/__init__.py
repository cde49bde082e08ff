"""On formulas with a known optimum."""
