"""Floor 3: the accept stage, loading and reloading, drain."""
