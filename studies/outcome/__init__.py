"""What leaves the project: a page, a local server, files for training stacks."""
