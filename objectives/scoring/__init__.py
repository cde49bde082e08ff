"""From a resident model and held-out windows to nats, and the differences beyond chance."""
