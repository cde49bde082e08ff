"""What each partition contributes to each held-out domain, and how reliably."""
