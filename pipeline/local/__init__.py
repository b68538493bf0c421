"""The graph on this machine: the runner, its root and its cache."""
