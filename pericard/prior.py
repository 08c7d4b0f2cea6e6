"""`pericard prior train`, `distill`, `video`, `animate`, `gamma` and `identity`: remake the priors from the phantom."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pericard.errors import Exit


def train(out: Path, device: str) -> int:
    """Train the priors on the autoencoder that is there, into the folder `out`; about half an hour on a core."""
    from synthesis.generators.latent_flow import LatentFlow
    from synthesis.prior import Recipe
    from synthesis.prior import train as train_prior

    with _bars() as show:
        config = LatentFlow(prior=False, tune=".")
        train_prior(out, recipe=Recipe(), config=config, device=device, progress=show)
    return Exit.PASS


def distill(out: Path) -> int:
    """Teach a student of the public generator and write it into the folder `out`; minutes on one core."""
    from synthesis.distill import Lesson, distill_public

    with _bars() as show:
        distill_public(out, Lesson(), progress=show)
    return Exit.PASS


def video(out: Path) -> int:
    """Train the prior of moving hearts, and what enlarges them, into the folder `out`; about seven core minutes."""
    from synthesis import enlarger
    from synthesis.generators.latent_video_flow import LatentVideoFlow
    from synthesis.video_prior import VideoRecipe
    from synthesis.video_prior import train as train_video

    with _bars() as show:
        train_video(out, recipe=VideoRecipe(), config=LatentVideoFlow(prior=False, tune="."), progress=show)
        enlarger.train(out, recipe=enlarger.Recipe(), progress=show)
    return Exit.PASS


def gamma(out: Path) -> int:
    """Train the Γ-autoencoder into the folder `out`; about two minutes of one core."""
    from synthesis.gamma import GammaRecipe
    from synthesis.gamma import train as train_gamma

    with _bars() as show:
        train_gamma(out, GammaRecipe(), progress=show)
    return Exit.PASS


def animate(out: Path) -> int:
    """Train the prior that makes pictures beat into the folder `out`; about twelve minutes of one core."""
    from synthesis.animation_prior import RECIPE
    from synthesis.animation_prior import train as train_animation
    from synthesis.generators.latent_video_edm import LatentVideoEdm

    with _bars() as show:
        train_animation(out, recipe=RECIPE, config=LatentVideoEdm(tune="."), progress=show)
    return Exit.PASS


def identity(out: Path) -> int:
    """Teach the re-identification embedding into the folder `out`; about seven minutes of one core."""
    from privacy.identity_training import Recipe, write

    with _bars() as show:
        write(out, Recipe(), show)
    return Exit.PASS


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, steps: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=steps)
            bars.update(tasks[stage], completed=done)

        yield show
