"""The preparation of a process before it imports a library."""
