"""What each partition contributes, to which held-out domain, and how far that can be believed."""
