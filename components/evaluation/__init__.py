"""Scores of models on data: estimates, comparisons, drift and InfraCheck's probe."""
