"""What every run has: its record, its lock, its lifecycle and who is notified."""
