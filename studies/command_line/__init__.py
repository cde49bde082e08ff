"""The verbs: their arguments, their options and their help."""
