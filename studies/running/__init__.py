"""The search itself, alone or by many."""
