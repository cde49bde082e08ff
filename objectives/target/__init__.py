"""From losses by domain to what is minimised."""
