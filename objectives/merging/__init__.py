"""Any weights of the members into one resident model, and the geometry of members."""
