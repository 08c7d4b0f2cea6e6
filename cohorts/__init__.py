"""A hospital's files become studies."""
