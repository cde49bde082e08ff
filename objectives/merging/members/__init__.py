"""How the K members of a pool are held: in which form, and in which place."""
