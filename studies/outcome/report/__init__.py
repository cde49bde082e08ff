"""A study's report: one page, with its figures as PNG, CSV and JSON."""
