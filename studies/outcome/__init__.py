"""What leaves the project: a page, a bill, a local server, files for training stacks, a smaller model."""
