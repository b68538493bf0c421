"""Local and remote files, for every layer; imports nothing else of this project."""
