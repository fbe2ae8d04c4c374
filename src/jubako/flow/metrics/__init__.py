"""What runs and schedules come to in numbers, as Prometheus reads them. `flow.reporting` starts it."""
