"""The study's database: Optuna's tables, evaluations, locks and leases."""
