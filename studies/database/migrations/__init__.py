"""Revisions of Mixscout's own tables, applied by studies.database.schema. Optuna's tables are Optuna's."""
