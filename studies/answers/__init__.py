"""The best mixture of a study: beside baselines, on other text, and really trained."""
