"""Floor 1: the way to a provider: the dial guard, TLS, pools, choice."""
