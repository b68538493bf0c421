"""Measurements of models and data: bounds, gate results, drift, InfraCheck's probe."""
