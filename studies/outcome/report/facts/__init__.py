"""The facts behind all sections, and the parts of a section."""
