"""Attacks on the command line, by line of the table in docs/reference/attacks.md."""
