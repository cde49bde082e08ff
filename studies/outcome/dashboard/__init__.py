"""The verb `dashboard`: optuna-dashboard on a study, with our figures and a note in it."""
