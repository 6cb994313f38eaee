"""How far each use of file descriptors may go, so that nobody's connections leave the program without any.

The kernel gives out the lowest free number, so a number says how many are taken below it: counting costs nothing.
Clients stop first; then connections to providers and pipes, so that who was let in can be served; what is left is for
the admin endpoints, files and reloads.
"""

import resource


def kept_free(limit: int) -> int:
    """How many descriptors of `limit` clients may not take."""
    return min(max(16, limit // 16), 256, limit // 2)


def for_clients() -> int:
    """Descriptors of clients are below this number."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit - kept_free(limit)


def for_providers() -> int:
    """Descriptors of connections to providers, and of pipes, are below this number."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit - kept_free(limit) // 2
