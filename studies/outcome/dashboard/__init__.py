"""A local server: optuna-dashboard on a study, with the report's figures."""
