"""Configures, runs and ships the graph."""
