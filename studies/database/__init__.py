"""Optuna's tables and ours: opened, locked, leased, remembered, waited for."""
