"""A study file opened and checked, on a pool or on a swarm."""
