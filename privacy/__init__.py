"""What may leave, what it cost, who could be found."""
