"""The TOML file as checked values, and its reference."""
