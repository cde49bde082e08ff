"""How a pool holds its members: the form of their values, and the place of their bytes."""
