"""The verbs: arguments and options only."""
