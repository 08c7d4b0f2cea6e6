"""`pericard prior train`: remake the public priors from the phantom."""

from pathlib import Path

from pericard.errors import Exit


def train(out: Path, device: str) -> int:
    """Train the priors into the folder `out`; about an hour on two cores, minutes on a GPU."""
    from rich.console import Console
    from rich.progress import Progress

    from synthesis.generators.latent_flow import LatentFlow
    from synthesis.prior import Recipe
    from synthesis.prior import train as train_prior

    with Progress(console=Console(stderr=True)) as bars:
        tasks = {}

        def show(stage: str, done: int, steps: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=steps)
            bars.update(tasks[stage], completed=done)

        config = LatentFlow(prior=False, tune=".")
        train_prior(out, recipe=Recipe(), config=config, device=device, progress=show)
    return Exit.PASS
