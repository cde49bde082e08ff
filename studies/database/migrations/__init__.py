"""Revisions of Mixscout's own tables; Optuna's tables are Optuna's."""
