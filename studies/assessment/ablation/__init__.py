"""Contributions of each partition to each held-out domain, and their reliability."""
