"""Scheduled runs: cron expressions, service files and the local scheduler."""
