"""The winner made small enough to ship: quantised, pruned, or taught to a smaller student."""
