"""Files of text, in any container and encoding, become rows; what holds no text is refused by name."""
