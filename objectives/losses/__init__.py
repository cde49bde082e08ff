"""The worth of a mixture: held-out loss of its merge or of the trained model, or downstream error."""
