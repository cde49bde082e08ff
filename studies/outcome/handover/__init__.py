"""The winning mixture as files that training stacks read."""
