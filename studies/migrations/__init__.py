"""Revisions of Mixscout's own tables, applied by studies.schema. Optuna's tables are Optuna's."""
