import json

import numpy as np
import torch
import torch.nn.functional as F

from cohorts.clips import films
from learning import arrays
from learning.blocks import to_signal
from synthesis import enlarger, priors
from synthesis.autoencoder import Autoencoder
from synthesis.enlarger import NAME, SIZE, Enlarger, Recipe, pairs, train
from synthesis.generators.latent_video_flow import LatentVideoFlow


def test_the_shipped_enlarger_comes_nearer_to_larger_latents_than_bicubic_interpolation():
    autoencoder, network = Autoencoder().eval(), Enlarger().eval()
    arrays.load_state(autoencoder, priors.load("autoencoder"))
    arrays.load_state(network, priors.load(NAME))
    small, large, masks = pairs(autoencoder, 3, 2, seed=5)
    with torch.inference_mode():
        plain = F.interpolate(small, size=(14, 14), mode="bicubic")
        off = [float(F.mse_loss(z, large)) for z in (plain, network(small, masks))]
    assert off[1] < 0.5 * off[0]


def test_training_makes_a_file_that_loads_with_its_provenance(tmp_path, monkeypatch):
    monkeypatch.setattr(enlarger, "pairs", lambda *_, seed: (torch.ones(4, 4, 8, 8), torch.ones(4, 4, 14, 14),
                                                            torch.zeros(4, SIZE, SIZE, dtype=torch.uint8)))  # fmt: skip
    train(tmp_path, recipe=Recipe(subjects=1, steps=2, batch_size=2), progress=lambda *_: None)
    record = json.loads((tmp_path / f"{NAME}.json").read_text())
    assert record["digests"][NAME] == arrays.digest(arrays.read(tmp_path / f"{NAME}.safetensors"))
    assert record["recipe"]["steps"] == 2


def test_clips_of_112_pixels_show_what_those_of_64_show():
    phase, drawn = np.arange(4)[None].repeat(2, 0) / 4, []
    for size in (64, SIZE):
        asked = films(2, phase=phase, seed=9, size=size)
        clips = LatentVideoFlow(size=size, precision="fp32").build().sample(asked, seed=1)
        assert clips.shape == asked.pixels.shape
        drawn.append(F.interpolate(torch.from_numpy(clips).float(), size=(16, 16), mode="area").flatten().numpy())
    assert np.corrcoef(drawn)[0, 1] > 0.95


def test_sites_of_112_pixels_train_on_latents_of_64(monkeypatch):
    generator = LatentVideoFlow(size=SIZE, precision="fp32").build()
    asked = films(1, phase=np.arange(3)[None] / 3, seed=9, size=SIZE)
    losses = generator.losses(asked, np.arange(2), generator=torch.Generator().manual_seed(1))
    assert losses.isfinite().all()
    with torch.inference_mode():
        small = F.interpolate(to_signal(torch.from_numpy(asked.pixels[0])), size=(64, 64), mode="area")
        torch.testing.assert_close(generator._latents(asked)[0], generator.autoencoder.encode(small))
