"""The `directory` source: a table, kept elsewhere, of who lives where."""
