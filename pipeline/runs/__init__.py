"""The lifecycle of a run: its lock, record, metrics and notifications."""
