"""The parts of a complete pool: their places, their provenance, opening and verifying them."""
