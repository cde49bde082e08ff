"""Files and folders: written whole, known by digest, read strictly, fetched from the hub."""
