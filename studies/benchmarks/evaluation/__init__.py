"""What an evaluation, and holding the members, costs."""
