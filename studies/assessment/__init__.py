"""Four peer rooms on how far an answer can be believed; none imports another."""
