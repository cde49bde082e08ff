"""The pool file: its sections as checked values."""
