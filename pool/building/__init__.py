"""Build what is missing of a pool, add a member, train a mixture for real."""
