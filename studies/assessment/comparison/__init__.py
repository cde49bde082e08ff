"""Strategies against each other at equal budgets: courses, regret, and duels."""
