"""The local runner of the graph, the root of its state, and its cache."""
