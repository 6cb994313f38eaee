"""Floor 2: the admin endpoints: health, readiness, metrics, status."""
