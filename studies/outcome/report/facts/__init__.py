"""The facts that sections read, and the parts they are made of."""
