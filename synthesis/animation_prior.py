"""Train the public prior that makes pictures beat, on films of the phantom: `pericard prior animate`.

It starts from the prior of moving hearts and learns to do without masks: from one frame, its phase and an ejection
fraction that says nothing else about the person, for it is asked of the phantoms evenly. All of it is learned from a
simulator, so it costs no privacy. None is shipped: taught by the whole recipe, it still ignores the fraction that is
asked for, on a picture alone. What obeys it today are masks (`synthesis.shape_cycles`).
"""

from pathlib import Path

import torch

from synthesis.generators.latent_video_edm import NAME, LatentVideoEdm, LatentVideoEdmGenerator, denoising_loss
from synthesis.video_prior import Progress, VideoRecipe, encoded, train_flow, write

START = "latent_video_flow"
RECIPE = VideoRecipe(
    subjects=600, frames=8, shown=(2, 8), steps=4_000, batch_size=12, learning_rate=1.2e-3, unknown=0.06, bare=1.0,
    given=1.0, lvef=(8.0, 82.0), seed=20_261_121,
)  # fmt: skip


def train(out: Path, *, recipe: VideoRecipe, config: LatentVideoEdm, progress: Progress) -> None:
    """Train the prior and write it, as float16 safetensors with its provenance, into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{NAME}.part.safetensors"
    generator = begun(config)
    films = encoded(recipe, generator.autoencoder, config.size, progress)
    network = train_flow(generator.module, films, recipe, progress, save=unfinished, loss_of=denoising_loss)
    write(out, network, recipe=recipe, config=config, name=NAME, command="animate", origin=START)
    unfinished.unlink(missing_ok=True)


def begun(config: LatentVideoEdm) -> LatentVideoEdmGenerator:
    """Return a generator that knows how hearts move, and says nothing yet: its last layer is zero."""
    generator = LatentVideoEdmGenerator(config, start=START)
    for name, parameter in generator.module.named_parameters():
        if name.startswith("final."):
            torch.nn.init.zeros_(parameter)
    return generator
