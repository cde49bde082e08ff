"""Where in the mixture space to look next, and what to prune before any merge."""
