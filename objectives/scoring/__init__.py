"""From a resident model and held-out windows to nats, and to the differences that can be told apart."""
