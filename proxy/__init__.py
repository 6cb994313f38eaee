"""Domicile: a reverse proxy that puts a legal boundary into the network path."""
