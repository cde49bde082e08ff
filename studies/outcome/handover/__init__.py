"""The best mixture as files for training stacks, and evaluations as a swarm."""
