"""What a task was made of: its code, settings and inputs, told apart by what they hold."""
