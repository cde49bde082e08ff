"""How a pool's members are held: which form their values have, and where those lie."""
