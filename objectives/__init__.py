"""What a mixture is worth: merge the pooled models by its weights, then measure held-out loss."""
