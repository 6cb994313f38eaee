"""Floor 1: sans-I/O readers and writers of what travels: HTTP/1 heads and framing, the TLS ClientHello."""
