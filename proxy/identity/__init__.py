"""Floor 1: who the subject is: client address, country, and the sources of a home."""
