"""Runs on a schedule: cron expressions, service files and the scheduler."""
