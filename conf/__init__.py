"""Names become frozen config dataclasses; Hydra lives here and nowhere else."""
