import dataclasses

import numpy as np
import pytest
import torch

from cohorts.clips import Clips, films
from cohorts.study import CAVITY, MYOCARDIUM
from learning import arrays
from synthesis import flow, priors
from synthesis.generators.latent_video_flow import LatentVideoFlow, LatentVideoFlowGenerator, masked_mean
from synthesis.video_prior import NAME, Encoded, VideoRecipe, batches, encoded, train_flow, write

TINY = LatentVideoFlow(
    prior=False, width=16, depth=1, heads=2, autoencoder_width=8, size=32, sample_steps=4, phases=4, tune=".",
    precision="fp32",
)  # fmt: skip


def silent(what: str, done: int, total: int) -> None:
    pass


def built(config: LatentVideoFlow = TINY) -> LatentVideoFlowGenerator:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        generator = config.build()
        for parameter in generator.module.parameters():
            parameter.data = torch.randn_like(parameter) * 0.25
    return generator


@pytest.fixture(scope="module")
def beat() -> Clips:
    return films(1, phase=np.arange(6)[None] / 6, seed=2, size=32)


def test_another_beat_shows_the_same_but_for_new_speckle(beat):
    pairs = {k: np.concatenate([getattr(beat, k)] * 2, 1) for k in ("pixels", "masks", "phase")}
    drawn = built().sample(dataclasses.replace(beat, **pairs, length=2 * beat.length), seed=3).astype(float)
    first, second = drawn[:, :6], drawn[:, 6:]
    assert np.abs(first - second).mean() > 0
    assert np.abs(first - second).mean() < 0.8 * np.abs(first - np.roll(second, 3, 1)).mean()


def test_a_frame_drawn_alone_knows_nothing_of_the_others(beat):
    every = dataclasses.replace(TINY, phases=6, harmonics=0)  # no frame lies between others, none is smoothed
    alone, together = built(dataclasses.replace(every, pattern="IIII")), built(every)
    other = dataclasses.replace(beat, masks=beat.masks.copy())
    other.masks[:, 1:] = 0
    at_rest = [g.sample(c, seed=3)[:, 0].astype(int) for g in (alone, together) for c in (beat, other)]
    assert np.abs(at_rest[0] - at_rest[1]).max() <= 1
    assert np.abs(at_rest[2] - at_rest[3]).max() > 1


def test_image_and_video_denoisers_take_turns_by_the_pattern(beat):
    asked: list[int] = []
    generator = built(dataclasses.replace(TINY, pattern="VIIV", sample_solver="euler"))
    generator.module.register_forward_pre_hook(lambda _, args: asked.append(args[0].shape[1]))
    generator.sample(beat, seed=3)
    assert asked == [4, 1, 1, 4]


def test_all_together_is_what_no_pattern_means(beat):
    named = built(dataclasses.replace(TINY, pattern="VVVV"))
    assert np.array_equal(named.sample(beat, seed=3), built().sample(beat, seed=3))


@pytest.mark.parametrize(
    "change", [{"pattern": "VX"}, {"pattern": "VV"}, {"size": 40}, {"phases": 1}, {"backbone": "mlp"}]
)
def test_what_cannot_be_drawn_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(TINY, **change)


def test_what_has_no_prior_is_refused():
    for change in ({"size": 96}, {"backbone": "unet"}):
        with pytest.raises(ValueError, match=f"{next(iter(change))}=.* has no prior"):
            LatentVideoFlow(**change)


def test_unknown_phases_and_other_sizes_are_refused(beat):
    with pytest.raises(ValueError, match="phase"):
        built().sample(dataclasses.replace(beat, phase=beat.phase * np.nan), seed=1)
    with pytest.raises(ValueError, match="size=32"):
        built().sample(films(1, phase=np.zeros((1, 2)), seed=2, size=48), seed=1)


def test_guidance_goes_beyond_the_condition(beat):
    strong = built(dataclasses.replace(TINY, guidance=3.0))
    assert not np.array_equal(strong.sample(beat, seed=3), built().sample(beat, seed=3))


def test_padding_neither_adds_to_a_mean_nor_divides_it():
    errors = torch.tensor([[1.0, 3.0, torch.nan], [2.0, torch.inf, 9.0]]).view(2, 3, 1)
    real = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(errors, real).tolist() == [2, 2]


@pytest.fixture(scope="module")
def small() -> Encoded:
    recipe = VideoRecipe(subjects=2, frames=4)
    return encoded(recipe, built().autoencoder, 32, silent)


def test_batches_hide_every_condition_now_and_then_and_never_all_frames(small):
    recipe = VideoRecipe(subjects=2, frames=4, shown=(1, 4), steps=40, batch_size=8)
    hidden: dict[str, list[bool]] = {}
    for z, told in batches(small, recipe, torch.Generator().manual_seed(1)):
        assert z.shape[:2] == told["phase"].shape == told["real"].shape == told["masks"].shape[:2]
        assert told["real"].any(1).all()
        for name, value in told.items():
            unknown = {"masks": value == 255, "view": value == -1}.get(name, value.float().isnan())
            hidden.setdefault(name, []).extend(
                unknown.flatten(1).all(1).tolist() if value.ndim > 1 else unknown.tolist()
            )
    for name in ("phase", "masks", "view", "first", "first_phase", "lvef", "heart_rate", "frame_rate"):
        assert 0 < np.mean(hidden[name]) < 0.7, name


def test_training_lowers_the_loss_and_its_result_is_read_back_with_its_provenance(small, tmp_path, monkeypatch):
    recipe = VideoRecipe(subjects=2, frames=4, shown=(2, 4), steps=40, batch_size=8, learning_rate=1e-2)
    z, told = next(batches(small, recipe, torch.Generator().manual_seed(9)))
    noise, t = torch.randn(z.shape, generator=torch.Generator().manual_seed(8)), torch.linspace(0, 1, len(z))

    @torch.no_grad()
    def loss(network: torch.nn.Module) -> float:
        off = network(flow.interpolate(z, noise, t), t, **told) - flow.velocity(z, noise)
        return float(masked_mean(off.square(), told["real"]).mean())

    fresh = TINY.build().module
    before = loss(fresh)
    kept = train_flow(fresh, small, recipe, silent)
    assert loss(kept) < before
    write(tmp_path, kept, recipe=recipe, config=TINY)
    monkeypatch.setenv("PERICARD_PRIORS", str(tmp_path))
    found = priors.load(NAME)
    assert all(a.dtype == np.float16 for a in found.values())
    arrays.load_state(TINY.build().module, found)
    assert priors.provenance(NAME)["recipe"]["steps"] == 40


@pytest.fixture(scope="module")
def hearts() -> tuple[Clips, np.ndarray]:
    """Return what was asked of the public prior, one beat of two strangers in two views, and what it drew."""
    asked = films(2, phase=np.tile(np.arange(12) / 12, (2, 1)), seed=906, size=64, lvef_percent=np.array([25.0, 70.0]))
    return asked, LatentVideoFlow(precision="fp32").build().sample(asked, seed=4)


def test_the_end_of_a_beat_of_the_public_prior_meets_its_beginning(hearts):
    grey = hearts[1].astype(float)
    inner = np.abs(np.diff(grey, axis=1)).mean((1, 2, 3))
    assert np.all(np.abs(grey[:, -1] - grey[:, 0]).mean((1, 2)) < 1.5 * inner)


def test_blood_is_darker_than_muscle_where_the_public_prior_was_asked_for_them(hearts):
    asked, drawn = hearts
    # On average: near the probe haze brightens blood, in phantoms and so in what learnt from them.
    assert drawn[asked.masks == MYOCARDIUM].mean() > drawn[asked.masks == CAVITY].mean() + 5


def test_frames_of_one_clip_of_the_public_prior_are_of_one_scanner(hearts):
    grey = hearts[1].astype(float)
    level = grey.mean((2, 3))
    assert level.std(1).max() < 0.5 * level.mean(1).std()
