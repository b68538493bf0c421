"""The report: what it measures, its facts, figures and page."""
