import dataclasses

import numpy as np
import pytest
import torch

from cohorts.clips import Clips, films
from cohorts.phantom import motion
from learning import arrays
from synthesis import diffusion
from synthesis.animation_prior import RECIPE
from synthesis.generators.latent_video_edm import (
    MOTION,
    NAME,
    SPREAD,
    LatentVideoEdm,
    LatentVideoEdmGenerator,
    at_rest,
    conditions_of,
    denoised,
    denoising_loss,
    emptied,
)
from synthesis.video_prior import VideoRecipe, batches, encoded, train_flow, write

TINY = LatentVideoEdm(
    prior=False, width=16, depth=1, heads=2, autoencoder_width=8, size=32, sample_steps=3, phases=6, tune=".",
    precision="fp32",
)  # fmt: skip


def silent(what: str, done: int, total: int) -> None:
    pass


def built(config: LatentVideoEdm = TINY) -> LatentVideoEdmGenerator:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        generator = config.build()
        for parameter in generator.module.parameters():
            parameter.data = torch.randn_like(parameter) * 0.25
    return generator


@pytest.fixture(scope="module")
def beat() -> Clips:
    return films(2, phase=np.tile(np.arange(6) / 6, (2, 1)), seed=2, size=32)


def of(clips: Clips) -> dict[str, torch.Tensor]:
    return conditions_of(clips, clips.phase)


def test_without_noise_the_denoiser_gives_back_what_it_is_given(beat):
    z = SPREAD * torch.randn(4, 6, 4, 4, 4)
    kept = denoised(built().module, z, torch.full((4,), 1e-5), of(beat))
    torch.testing.assert_close(kept, z, atol=1e-3, rtol=1e-3)


def test_of_pure_noise_the_denoiser_keeps_nothing_but_what_the_network_says(beat):
    network, sigma = built().module, torch.full((4,), 1e6)
    noise = torch.randn(4, 6, 4, 4, 4)
    loud = denoised(network, 1e6 * noise, sigma, of(beat))
    assert loud.abs().max() < 100 * SPREAD  # c_out tends to σ_data, c_skip x to 0
    said = -network(noise, torch.ones(4), **{**of(beat), "lvef": emptied(of(beat))})
    torch.testing.assert_close(loud, SPREAD * said, atol=1e-3, rtol=1e-3)  # what is left falls as 1/σ: 1e-4 here


def test_the_loss_of_a_network_that_says_nothing_is_one_on_standard_latents(beat):
    generator = TINY.build()  # its last layer is zero, so D = c_skip x
    dice = torch.Generator().manual_seed(1)
    z = torch.randn(4, 6, 4, 4, 4, generator=dice)
    losses = torch.stack([denoising_loss(generator.module, z, of(beat), dice) for _ in range(50)])
    assert losses.mean().item() == pytest.approx(1, abs=0.1)  # λ c_out² = 1: as hard at every noise level


def test_what_is_diffused_is_how_frames_differ_from_the_shown_one():
    """A clip that stands still is nothing to learn; where no frame is shown, the clip itself is."""
    shown = torch.randn(2, 4, 4, 4)
    shown[1] = torch.nan
    rest, scale = at_rest(shown)
    assert torch.equal(rest[0, 0], shown[0])
    assert (rest[1] == 0).all()
    assert scale.flatten().tolist() == pytest.approx([MOTION, 1.0])


def test_a_frame_is_told_how_much_has_left_since_the_shown_one(beat):
    """At end systole, of an LVEF of 60 %, 60 % have left a picture of end diastole, none one of end systole."""
    told = of(beat)
    end = motion.systole(beat.heart_rate_bpm)
    told["phase"] = torch.from_numpy(np.stack([0 * end, end], 1))
    told["lvef"] = torch.full((4,), 60.0)
    from_diastole, from_systole, from_nothing = (
        emptied({**told, "first_phase": torch.from_numpy(shown)}) for shown in (0 * end, end, end * np.float32("nan"))
    )
    torch.testing.assert_close(from_diastole, torch.tensor([[55.0, 55 + 30]]).expand(4, 2))
    torch.testing.assert_close(from_systole, torch.tensor([[55.0 - 30, 55]]).expand(4, 2))
    torch.testing.assert_close(from_nothing, from_diastole)
    assert emptied({**told, "lvef": told["lvef"] * torch.nan}).isnan().all()
    assert emptied({**told, "phase": told["phase"] * torch.nan}).isnan().all()


def test_a_network_that_says_nothing_leaves_the_picture_nearly_as_it_is(beat):
    fine = dataclasses.replace(TINY, sample_steps=24)
    silence, speaking = fine.build(), built(fine)  # the last layer of the first one is zero
    told = of(beat)
    told["first"] = torch.randn(4, 4, 4, 4)
    drawn, other = (g._drawn(told, np.arange(4), seed=3, at_sites=True) for g in (silence, speaking))
    off = (drawn - told["first"].unsqueeze(1)).std().item()
    assert off == pytest.approx(MOTION, rel=0.1)  # what it believes of data is their scale alone
    assert (other - told["first"].unsqueeze(1)).std().item() > 1.5 * off


def test_guidance_of_one_is_none_and_of_two_says_it_twice(beat):
    shown = [built(dataclasses.replace(TINY, guidance=w)).sample(beat, seed=3) for w in (1.0, 1.0 + 1e-6, 2.0)]
    assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1
    assert np.abs(shown[0].astype(int) - shown[2]).max() > 1


def test_guidance_needs_something_to_be_asked(beat):
    nobody = dataclasses.replace(
        beat, lvef_percent=beat.lvef_percent * np.nan, heart_rate_bpm=beat.lvef_percent * np.nan
    )
    plain, guided = (built(dataclasses.replace(TINY, guidance=w)).sample(nobody, seed=3) for w in (1.0, 4.0))
    assert np.abs(plain.astype(int) - guided).max() <= 1


def test_masks_are_never_looked_at_neither_in_drawing_nor_in_training(beat):
    other = dataclasses.replace(beat, masks=3 - np.minimum(beat.masks, 3))
    generator = built()
    assert np.array_equal(*(generator.sample(c, seed=3, first=beat.pixels[:, 0]) for c in (beat, other)))
    one, two = (generator.losses(c, np.arange(4), generator=torch.Generator().manual_seed(1)) for c in (beat, other))
    assert torch.equal(one, two)


def test_the_same_picture_at_another_ejection_fraction_is_another_clip(beat):
    generator = built()
    other = dataclasses.replace(beat, lvef_percent=beat.lvef_percent - 30)
    one, two = (generator.sample(c, seed=3, first=beat.pixels[:, 0]).astype(int) for c in (beat, other))
    assert (np.abs(one - two).max((1, 2, 3)) > 1).all()


def test_a_shown_picture_is_the_first_frame_unless_its_phase_is_said(beat):
    generator, shown = built(), beat.pixels[:, 0]
    as_first, said, later = (
        generator.sample(beat, seed=3, first=shown, first_phase=phase)
        for phase in (None, beat.phase[:, 0], np.full(4, 0.4, np.float32))
    )
    assert np.array_equal(as_first, said)
    assert not np.array_equal(as_first, later)


def test_a_whole_turn_of_phases_changes_nothing():
    beat = films(1, phase=np.arange(4)[None] / 4, seed=2, size=32)
    told, generator = of(beat), built()
    still, turned, half = (
        generator._drawn({**told, "phase": told["phase"] + by}, np.arange(2), seed=3, at_sites=True)
        for by in (0.0, 1.0, 0.5)
    )
    torch.testing.assert_close(still, turned, atol=1e-2, rtol=1e-2)
    assert (still - half).abs().max() > 0.1


def test_the_end_of_a_beat_meets_its_beginning():
    beat = films(1, phase=np.arange(36)[None] / 36, seed=2, size=32)
    drawn = built().sample(beat, seed=3).astype(float)
    inner, ends = np.abs(np.diff(drawn, axis=1)).mean(), np.abs(drawn[:, -1] - drawn[:, 0]).mean()
    assert ends < 1.5 * inner


def test_every_level_but_the_last_asks_the_network_twice(beat):
    asked: list[int] = []
    generator = built(dataclasses.replace(TINY, sample_steps=5))
    generator.module.register_forward_pre_hook(lambda _, args: asked.append(len(args[0])))
    generator.sample(beat, seed=3)
    assert asked == [4] * 9


def test_churn_draws_other_clips_by_the_same_seed_alone(beat):
    churned = built(dataclasses.replace(TINY, churn=20.0))
    first = churned.sample(beat, seed=3)
    assert np.array_equal(first, churned.sample(beat, seed=3))
    assert not np.array_equal(first, built().sample(beat, seed=3))


@pytest.mark.parametrize(
    ("setting", "named"),
    [({"size": 40}, "size=40"), ({"phases": 1}, "phases=1"), ({"sample_steps": 0}, "sample_steps=0"),
     ({"churn": -1.0}, "churn=-1")],
)  # fmt: skip
def test_a_config_out_of_bounds_is_refused_by_name(setting, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(TINY, **setting)


def test_frames_without_a_phase_and_pictures_of_another_size_are_refused(beat):
    with pytest.raises(ValueError, match="phase"):
        built().sample(dataclasses.replace(beat, phase=beat.phase * np.nan), seed=3)
    with pytest.raises(ValueError, match="size=32"):
        built().sample(beat, seed=3, first=np.zeros((4, 64, 64), np.uint8))


def test_training_on_films_learns_tells_no_mask_and_asks_every_fraction(tmp_path):
    recipe = dataclasses.replace(
        RECIPE, subjects=4, frames=4, shown=(2, 4), steps=120, batch_size=8, learning_rate=2e-2
    )
    generator = TINY.build()
    small = encoded(recipe, generator.autoencoder, 32, silent)
    low, high = recipe.lvef
    assert np.ptp(small.clips.lvef_percent) > 0
    assert ((small.clips.lvef_percent >= low) & (small.clips.lvef_percent <= high)).all()
    z, told = next(batches(small, recipe, torch.Generator().manual_seed(1)))
    assert (told["masks"] == 255).all()

    def loss(module: torch.nn.Module) -> float:
        dice = torch.Generator().manual_seed(5)
        return float(np.mean([denoising_loss(module, z, told, dice).mean().item() for _ in range(20)]))

    before = loss(generator.module)
    kept = train_flow(generator.module, small, recipe, silent, loss_of=denoising_loss)
    assert loss(kept) < 0.95 * before
    write(tmp_path, kept, recipe=recipe, config=TINY, name=NAME, command="animate", origin="latent_video_flow")
    assert arrays.read(tmp_path / f"{NAME}.safetensors").keys() == arrays.state(generator.module).keys()


def test_the_films_of_the_video_prior_keep_their_own_fractions(beat):
    assert VideoRecipe().lvef is None
    assert diffusion.SIGMA_DATA == SPREAD
