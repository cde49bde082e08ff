"""The best mixture, what it is compared with, on other text, and really trained."""
