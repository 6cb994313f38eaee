"""Floor 2: the HTTP/1 data plane."""
