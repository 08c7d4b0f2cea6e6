"""Studies that never happened."""
