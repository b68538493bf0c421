"""What a process does before it imports a library."""
