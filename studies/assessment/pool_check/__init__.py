"""Will this pool merge well; what does its text share."""
