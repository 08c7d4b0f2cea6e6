"""What sites train in common."""
