"""Floor 1: metrics and the access log."""
