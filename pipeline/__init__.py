"""The graph, its configuration, its orchestrators, its server and its commands."""
