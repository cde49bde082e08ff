"""Strategies against each other at equal budgets."""
