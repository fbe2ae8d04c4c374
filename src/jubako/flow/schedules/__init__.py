"""Schedules: cron lines, what is due when, and the service that starts it."""
