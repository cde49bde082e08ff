"""Predictions of merges and of trained models."""
