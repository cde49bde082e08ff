"""The study's database: Optuna's tables, evaluations, the ledger of commands, locks and leases."""
