"""What every section reads and is made of."""
