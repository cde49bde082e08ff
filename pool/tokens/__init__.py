"""From documents to tokens on disk, made once and reused where nothing changed."""
