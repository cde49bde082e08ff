"""Measurements that users can repeat on their own pool: ratios, with their spread."""
