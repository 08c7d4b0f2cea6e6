"""Twenty mistakes that published generators of hearts made, each as a test that is red where we make it too.

Where a mistake fits into two lines it stands beside the law as `published`, and the test says that it would be found.
Many laws are held elsewhere as well, over every generator that there is: `ELSEWHERE` names those tests by trap, and the
last test here that each of them is still there. Sources: the public code of EchoNet-Synthetic (arXiv 2406.00808; traps
1-3, 5-9, 15, 16), EchoFlow (2503.22357; 4, 17), EchoDiffusion (2303.12644; 10, 14, 18), EDMLX (2409.19371; 11, 19), a
4D cardiac MR generator (2606.26764; 12, 13), Echo from noise (2305.05424; 20).
"""

import ast
import csv
import dataclasses
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import obedience
from client import screening
from cohorts import clips
from cohorts.deidentify import Pseudonyms
from cohorts.frames import COLUMNS, Frames, gather
from cohorts.phantom import simulate
from cohorts.readers import READERS
from cohorts.split import Split, splits
from cohorts.study import UNLABELLED, Clip, Cohort, Origin, View
from conf.compose import compose
from conf.schema import Origin as SettingsFrom
from evaluation.evidence import Finding, Verdict, decide
from evaluation.policy import Lane, Policy
from evaluation.predicate import Number
from learning import arrays
from learning.augment import place
from learning.blocks import to_signal
from learning.messages import Kept
from pericard.simulate import groups
from privacy import coverage
from privacy.embedding import embed, nearest
from privacy.reidentification import ReidentificationFilter
from server.stages import screen
from synthesis import bundle as bundles
from synthesis import flow, parts, priors, shape
from synthesis.candidates import with_moments
from synthesis.export import takes_of
from synthesis.generators.latent_flow import LatentFlow
from synthesis.generators.latent_video_flow import masked_mean
from synthesis.layouts import Take, echonet_dynamic

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("conf", "cohorts", "privacy", "learning", "synthesis", "evaluation", "client", "server", "pericard")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ELSEWHERE = {
    1: {"privacy/test_embedding.py": ["test_an_embedding_never_depends_on_the_batch"],
        "privacy/test_reidentification.py": ["test_what_stands_beside_a_candidate_never_changes_its_fate"]},
    2: {"cohorts/test_split.py": ["test_a_subject_never_appears_in_two_splits_and_none_is_lost"]},
    3: {"privacy/test_reidentification.py": ["test_the_threshold_is_the_conformal_rank_of_one_score_per_subject"]},
    4: {"server/test_film.py": ["test_screening_sees_a_twin_in_the_middle_of_a_beat"]},
    5: {"contracts/test_generators.py": ["test_the_null_condition_is_learned_and_used",
                                         "test_unknown_conditions_of_a_clip_use_their_learned_nulls"],
        "synthesis/test_latent_video_flow.py": [
            "test_batches_hide_every_condition_now_and_then_and_never_all_frames"]},
    6: {"contracts/test_generators.py": ["test_the_loss_of_a_clip_is_the_same_however_much_it_is_padded"],
        "synthesis/test_latent_video_flow.py": ["test_padding_neither_adds_to_a_mean_nor_divides_it"]},
    7: {"synthesis/test_layouts.py": ["test_headers_and_extensions_are_those_of_the_data_set_to_the_letter",
                                      "test_the_published_loader_finds_small_and_large_traces_of_every_video",
                                      "test_echonet_dynamic_reads_back_through_our_own_reader"]},
    8: {"contracts/test_generators.py": ["test_a_seed_gives_the_same_images_and_another_seed_gives_others",
                                         "test_a_seed_gives_the_same_clips_and_another_seed_gives_others"],
        "contracts/test_learners.py": ["test_the_same_seed_trains_to_the_same_bits"],
        "synthesis/test_distill.py": ["test_the_same_lesson_gives_the_same_student"],
        "pericard/test_sample.py": ["test_another_seed_gives_other_images_and_another_solver_too"]},
    10: {"contracts/test_generators.py": ["test_what_pads_a_clip_is_never_its_first_frame"]},
    11: {"synthesis/test_flow.py": ["test_a_solver_has_the_order_it_claims_on_a_linear_equation"]},
    16: {"synthesis/test_bundle.py": ["test_a_bank_of_embeddings_of_subjects_is_refused",
                                      "test_a_bank_under_the_name_of_an_honest_tensor_is_refused"],
         "pericard/test_sample.py": ["test_a_bundle_that_counts_subjects_is_not_written"]},
    17: {"synthesis/test_flow.py": ["test_the_exact_field_of_a_gaussian_recovers_its_mean_and_spread",
                                    "test_the_path_starts_at_the_data_and_ends_in_noise"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def people() -> Frames:
    """Phantoms: 40 who teach, 40 who set thresholds, 40 whom nobody knows; ED and ES in two views."""
    return simulate.stills(120, seed=31, size=32)


def _of(frames: Frames, first: int) -> Frames:
    return frames.select(frames.subjects[first : first + 40])


TINY = LatentFlow(prior=False, width=16, depth=1, heads=2, autoencoder_width=8, sample_steps=1)


# 1 - synthetic images were normalised together, real ones each alone


def test_01_the_score_of_an_image_does_not_change_when_others_are_added(people):
    members, some = embed(_of(people, 0).pixels), _of(people, 80).pixels[:8]
    glaring = np.concatenate([some, np.full_like(some[:1], 255), np.zeros_like(some[:1])])
    np.testing.assert_array_equal(nearest(embed(some), members), nearest(embed(glaring), members)[:8])


# 2 - the threshold that was called "val" was set on the test split


@pytest.fixture(scope="module")
def asked_site(people):
    """A site that answers a request for screening, and the splits that it opened."""
    opened: list[Split] = []
    lots = dict(zip((Split.MEMBERS, Split.CALIBRATION, Split.TEST), (_of(people, k) for k in (0, 40, 80)), strict=True))

    def frames(*wanted: Split, size: int) -> Frames:
        opened.extend(wanted)
        return lots[wanted[0]]

    shown = np.concatenate([_of(people, 0).pixels[:40], simulate.stills(10, seed=32, size=32).pixels])
    policy = SimpleNamespace(drawn_again=0.05)
    kept = screening._exactly(SimpleNamespace(frames=frames, policy=policy), {"exact": {}}, shown[:, None], shown[:0])
    return opened, np.unpackbits(np.frombuffer(kept.bits, np.uint8), count=80).astype(bool)


def test_02_thresholds_are_set_on_calibration_subjects_and_the_test_split_stays_closed(asked_site):
    assert asked_site[0] == [Split.MEMBERS, Split.CALIBRATION]


def test_02_no_subject_is_in_two_splits():
    cohort = Cohort(subjects=tuple(f"{k:04d}" for k in range(200)), load=lambda _: (), origin=Origin.SYNTHETIC)
    lots = splits(cohort, key=b"k" * 16)
    assert set(lots) == set(Split)
    assert sorted(s for lot in lots.values() for s in lot) == list(cohort.subjects)


# 3 - the column tau held the score


def test_03_score_threshold_and_verdict_are_three_things(people):
    members, strangers, fresh = (embed(_of(people, k).pixels) for k in (0, 40, 80))
    sieve, who = ReidentificationFilter(alpha=0.1), _of(people, 0).subject
    tau, scores = sieve.calibrate(members, who, strangers, who), nearest(fresh, members)
    assert len(np.unique(scores)) > 100
    assert tau not in scores
    np.testing.assert_array_equal(sieve.screen(fresh, members, tau), scores < tau)


def test_03_neither_score_nor_threshold_nor_nearest_leaves_a_site():
    assert [field.name for field in dataclasses.fields(Kept)] == ["bits", "drawn_again", "counts"]


# 4 - of a film only the frame that it was made from was looked at


def test_04_moments_all_over_the_final_clip_are_screened_and_one_twin_drops_the_whole_heart():
    phase = np.tile(np.arange(12) / 12, (3, 1))
    drawn = clips.films(3, phase=phase, seed=5, size=32, views=(View.A4C,))
    ends = clips.stills(drawn, np.tile([0, 5], (3, 1)), np.arange(2))
    pixels = drawn.pixels.copy()
    pixels[2, 6:8] = pixels[0, 6:8]  # in the middle of the beat only
    looked = with_moments(ends, dataclasses.replace(drawn, pixels=pixels))
    for row in range(3):
        shown = looked.pixels[(looked.subject == row) & (looked.phase > 1)]
        at = {int(np.flatnonzero((pixels[row] == p).all((1, 2)))[0]) for p in shown}
        assert len(at) >= 4
        assert max(np.diff(sorted({*at, 12}))) <= 3  # no stretch of it is left out
    keep = screen._unlike_each_other(looked, {"similarity": 0.98})
    assert [bool(keep[looked.subject == row].all()) for row in range(3)] == [True, True, False]
    published = screen._unlike_each_other(ends, {"similarity": 0.98})
    assert published.all()


# 5 - the mask that should drop conditions was drawn and never used


@pytest.fixture(scope="module")
def public():
    """The public generator of images, and twelve strangers to it."""
    return LatentFlow().build(), simulate.stills(12, seed=77)


@pytest.mark.parametrize("null", ["view", "phase", "mask_known"])
def test_05_the_nulls_of_the_public_prior_were_taught(public, null):
    generator, frames = public
    unknown = {"masks": np.full_like(frames.masks, UNLABELLED), "view": np.full(48, -1), "phase": np.full(48, -1)}
    blind = dataclasses.replace(frames, **unknown)

    def loss():
        with torch.no_grad():
            return generator.losses(blind, np.arange(48), generator=torch.Generator().manual_seed(1)).mean().item()

    weight, taught = getattr(generator.module, null).weight, loss()
    kept = weight.data[0].clone()
    weight.data[0] = torch.randn(len(kept), generator=torch.Generator().manual_seed(2))  # as it was at the beginning
    published = loss()
    weight.data[0] = kept
    assert taught < 0.9 * published


# 6 - a masked loss was divided by all elements


def test_06_padding_does_not_dilute_a_loss():
    errors, real = torch.rand(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    padded = F.pad(errors, (0, 0, 0, 7)), F.pad(real, (0, 7))
    assert torch.allclose(masked_mean(*padded), masked_mean(errors, real))
    published = padded[0].flatten(1).mean(1)
    assert not torch.allclose(published, masked_mean(errors, real))


# 7 - FrameHeight held the number of frames, FrameWidth the height, NumberOfFrames the batch; all rows said TRAIN


def test_07_a_list_of_files_says_what_its_videos_are(tmp_path):
    length = {f"s{k:03d}": 5 + k % 3 for k in range(40)}
    echonet_dynamic.write(tmp_path, [_take(name, n) for name, n in length.items()], b"k" * 32)
    with (tmp_path / "FileList.csv").open() as file:
        rows = {row["FileName"]: row for row in csv.DictReader(file)}
    assert {name: int(row["NumberOfFrames"]) for name, row in rows.items()} == length
    assert {(row["FrameHeight"], row["FrameWidth"]) for row in rows.values()} == {("112", "112")}
    assert {row["Split"] for row in rows.values()} == {"TRAIN", "VAL", "TEST"}
    assert {row["FPS"] for row in rows.values()} == {"50"}
    for source in READERS["echonet_dynamic"](root=str(tmp_path)).index().sources:
        clip = source.load()
        assert clip.pixels.shape == (length[source.subject], 112, 112)
        assert (clip.ed_frame, clip.es_frame) == (1, length[source.subject] - 1)  # the last frame is one of them
        assert source.columns["split"] == rows[source.subject]["Split"]


def _take(name, frames):
    y, x = np.mgrid[:112, :112] - 55.5
    radius = np.where(np.arange(frames) == frames - 1, 20.0, np.where(np.arange(frames) == 1, 34.0, 28.0))
    masks = (np.hypot(x / 0.7, y) < radius[:, None, None]).astype(np.uint8)
    clip = Clip(pixels=100 * masks + 50, masks=masks, view=View.A4C, ed_frame=1, es_frame=frames - 1,
                frame_seconds=0.02)  # fmt: skip
    return Take(subject=name, study="1", lvef_percent=55.0, load=lambda: clip)


# 8 - `--seed` was accepted and ignored


def test_08_nobody_takes_a_seed_and_ignores_it():
    ignored = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and "seed" in {a.arg for a in (*node.args.args, *node.args.kwonlyargs)}
        if not any(isinstance(used, ast.Name) and used.id == "seed" for part in node.body for used in ast.walk(part))
        if not isinstance(node.body[-1], ast.Expr)  # the promise of a protocol, which has no body
    ]
    assert ignored == []


SEEDED = {
    "simulate.stills": lambda seed: simulate.stills(1, seed=seed, size=16).pixels,
    "simulate.conditions": lambda seed: simulate.conditions(2, seed=seed, size=16).masks,
    "clips.films": lambda seed: clips.films(1, phase=np.zeros((1, 2)), seed=seed, size=16).pixels,
    "shape.spread": lambda seed: shape.spread(3, seed=seed),
    "shape.draw": lambda seed: shape.draw(np.array([55.0]), seed=seed, size=16).masks,
    "shape.stills": lambda seed: shape.stills(np.array([55.0]), seed=seed, size=16).pixels,
    "parts.build": lambda seed: parts.build("learner", "segmenter", {"width": 4}, seed=seed).module.enter.weight,
    "pericard simulate": lambda seed: np.array(compose(["experiment=smoke", f"seed={seed}"], groups=groups())[0].seed),
    "sample": lambda seed: LatentFlow(sample_steps=1).build().sample(simulate.conditions(1, seed=0), seed=seed),
}


@pytest.mark.parametrize("what", SEEDED)
def test_08_a_seed_is_honoured(what):
    one, again, other = (torch.as_tensor(SEEDED[what](seed)).detach() for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


# 9 - one grey channel raised, and the script for testing lacked an import


def test_09_grey_images_pass_through_the_whole_filter_which_finds_copies(asked_site):
    kept = asked_site[1]
    assert not kept[:40].any()  # pictures of members themselves
    assert kept[40:].mean() > 0.8


# 10 - the frame to begin with could be padding


def test_10_the_frame_to_begin_with_is_a_real_one(monkeypatch):
    from synthesis.generators.latent_video_flow import LatentVideoFlow

    tiny = LatentVideoFlow(prior=False, width=16, depth=1, heads=2, autoencoder_width=8, size=32, tune=".").build()
    some = dataclasses.replace(clips.films(40, phase=np.full((40, 2), 0.1), seed=5, size=32).pad(12))
    phase = np.arange(12)[None] / 12 + np.zeros((80, 1))
    some = dataclasses.replace(some, phase=phase.astype(np.float32), length=1 + np.arange(80) % 3)
    told = {}
    monkeypatch.setattr(tiny, "module", lambda z, t, **kw: told.update(kw) or torch.zeros_like(z))
    for seed in range(8):
        tiny.losses(some, np.arange(80), generator=torch.Generator().manual_seed(seed))
        at = 12 * told["first_phase"].numpy()
        known = np.isfinite(at)
        assert 0 < known.sum() < 80
        assert (np.rint(at[known]) < some.length[known]).all()


# 11 - encoding returned prior noise; Heun's second slope was taken at the wrong point


def test_11_what_is_encoded_is_decoded_again(public):
    generator, frames = public
    x, masks = to_signal(torch.from_numpy(frames.pixels)), torch.from_numpy(frames.masks)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    z = generator.autoencoder.encode(x)

    def decibels(latents):
        again = generator.autoencoder.decode(latents, masks, noise)  # means of 4x4: speckle is drawn anew
        return -10 * torch.log10((F.avg_pool2d(again, 4) - F.avg_pool2d(x, 4)).square().mean() / 4).item()

    with torch.no_grad():
        published = decibels(torch.randn(z.shape, generator=torch.Generator().manual_seed(3)))
        assert decibels(z) > max(25, published + 10)


def test_11_heun_is_of_second_order_where_the_wrong_point_is_of_first():
    def error(step, steps):
        x, times = torch.ones(1, 1, dtype=torch.float64), torch.linspace(1, 0, steps + 1)
        for now, then in pairwise(times):
            x = step(lambda x, t: -2 * t.view(-1, 1) * x, x, now, then)
        return abs(x.item() - torch.e)

    def published(field, x, now, then):
        slope = field(x, now.expand(1))
        return x + (then - now) * (slope + field(x, then.expand(1))) / 2  # where we are, not where the slope leads

    assert error(flow.heun, 40) / error(flow.heun, 80) > 3
    assert error(published, 40) / error(published, 80) < 2.5


# 12 - sigma for log variance; null 6 here and 0 there; a limit of 100 left in


def test_12_latents_of_strangers_are_as_standard_as_the_flow_believes(public):
    generator, frames = public
    z = generator.autoencoder.encode(to_signal(torch.from_numpy(frames.pixels)))
    mean, spread = z.mean((0, 2, 3)), z.std((0, 2, 3))
    divergence = 0.5 * (spread**2 + mean**2 - 1 - 2 * spread.log())  # from a standard normal, in nats
    assert divergence.max() < 0.05
    constants = generator.autoencoder
    mistaken = z * constants.latent_std.view(-1, 1, 1) / (0.5 * constants.latent_std).exp().view(-1, 1, 1)
    assert not torch.allclose(mistaken.std((0, 2, 3)), torch.ones(4), atol=0.1)


def test_12_there_is_one_null_and_it_stands_before_every_class(public):
    generator, frames = public
    for of in ("view", "phase"):
        weight = getattr(generator.module, of).weight
        assert len(weight) == 1 + {"view": 4, "phase": 2}[of]
        unknown = dataclasses.replace(frames, **{of: np.full(48, -1)})
        weight.requires_grad_(True)
        loss = generator.losses(unknown, np.arange(4), generator=torch.Generator().manual_seed(0)).sum()
        rows = torch.autograd.grad(loss, weight)[0].abs().sum(1)
        weight.requires_grad_(False)
        assert rows[0] > 0
        assert rows[1:].sum() == 0


def test_12_no_row_is_beyond_a_limit(public):
    generator, frames = public
    columns = {name: getattr(frames, name)[np.arange(300) % 48] for name in COLUMNS}
    many = dataclasses.replace(frames, **columns)
    spoiled = dataclasses.replace(many, pixels=many.pixels.copy())
    spoiled.pixels[299] = 255 - spoiled.pixels[299]
    one, other = (
        generator.losses(f, np.array([298, 299]), generator=torch.Generator().manual_seed(0)) for f in (many, spoiled)
    )
    assert one[0] == other[0]
    assert one[1] != other[1]
    drawn = TINY.build().sample(many, seed=1)
    assert len(drawn) == len(np.unique(drawn.reshape(300, -1), axis=0)) == 300


# 13 - image and labels were transformed by draws of their own


def test_13_image_and_labels_are_moved_together():
    board = (np.indices((64, 64)) // 16).sum(0) % 2
    masks = torch.from_numpy(board.astype(np.uint8)).expand(20, -1, -1)
    x = masks.unsqueeze(1).float() * 2 - 1

    def agreement(moved, labels):
        return ((moved[:, 0] > 0) == (labels == 1)).float().mean().item()

    moved, labels = place(x, masks, generator=torch.Generator().manual_seed(0))
    published = place(x, masks, generator=torch.Generator().manual_seed(1))[1]
    assert agreement(moved, labels) > 0.97
    assert agreement(moved, published) < 0.8


# 14 - the best of three draws was reported


def test_14_one_draw_answers_one_request_and_the_table_says_so(monkeypatch):
    drawn = []

    def once(self, conditions, *, seed, **_):
        drawn.append(len(conditions))
        return conditions.pixels

    monkeypatch.setattr("synthesis.generators.latent_flow.LatentFlowGenerator.sample", once)
    wanted = shape.stills(np.array([30.0, 60.0]), seed=1)
    obedience.drawn(LatentFlow(), wanted)
    assert drawn == [len(wanted)]
    assert obedience.N_DRAWS == 1
    assert f"n_draws: {obedience.N_DRAWS}" in obedience.ABOUT


# 15 - synthetic-only runs had chosen models on real people, and begun from real people


def test_15_no_prior_knows_a_patient_and_each_says_what_it_was_made_from():
    records = [priors.provenance(path.stem) for path in sorted(priors.folder().glob("*.json"))]
    assert records
    for record in records:
        assert "no patient" in record["data"]
        assert record["digests"]


@pytest.mark.parametrize("use", ["hyperparameters.private", "checkpoint.chosen", "labels.private", "fidelity.real",
                                 "conditions.patients", "autoencoder.private", "embedding.private"])  # fmt: skip
def test_15_every_use_of_patients_outside_the_training_forbids_a_formal_release(use):
    assert coverage.formal(["train.generator", "sampling"]) == []
    assert coverage.formal(["train.generator", "sampling", use])


def test_15_settings_that_were_found_on_patients_are_declared_and_forbid_a_formal_release():
    experiment = compose(["experiment=smoke"], groups=groups())[0]
    assert experiment.settings_from is SettingsFrom.PUBLIC
    with pytest.raises(ValueError, match="settings_from"):
        dataclasses.replace(experiment, settings_from=SettingsFrom.PATIENTS)


# 16 - a table with one row for each training subject was handed on: `synthesis/test_bundle.py`, images and clips


def test_16_no_registered_generator_has_a_tensor_that_grows_with_its_subjects():
    """The size of every tensor follows from settings: one bundle is `require_impersonal`, whoever trained it."""
    own = {name: array for name, array in arrays.state(TINY.build().module).items() if "site" in name}
    told = {"generator": "latent_flow", "config": dataclasses.asdict(TINY), "seed": 0, "classes": {}, "size": 64,
            "plan": None, "epsilon": None, "delta": None, "priors": {}}  # fmt: skip
    bundles.require_impersonal(bundles.Bundle(**told, weights=own), [40])
    with pytest.raises(bundles.TellsOfSubjects, match="memory"):
        bundles.require_impersonal(bundles.Bundle(**told, weights={**own, "memory": np.zeros((40, 8))}), [40])


# 17 - two opposite time conventions


def _gaussian(x, t, mean=3.0, spread=0.5):
    """The exact velocity of data N(3, 0.5²) and standard noise, where t = 1 is noise."""
    s = t.view(-1, 1)
    scale = (s - (1 - s) * spread**2) / ((1 - s) ** 2 * spread**2 + s**2)
    return scale * (x - (1 - s) * mean) - mean


def test_17_a_gaussian_is_recovered_under_the_convention_that_is_declared_and_under_no_other():
    assert flow.TIME_CONVENTION == "t=1 is noise"
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    found = flow.integrate(_gaussian, noise, steps=40)
    assert found.mean().item() == pytest.approx(3, abs=0.02)
    assert found.std().item() == pytest.approx(0.5, abs=0.02)

    def opposite(x, t):  # the same field as written by those for whom t = 1 is data
        return -_gaussian(x, 1 - t)

    assert abs(flow.integrate(opposite, noise, steps=40).mean().item() - 3) > 1
    again = flow.integrate(lambda x, t: -opposite(x, 1 - t), noise, steps=40)
    assert torch.allclose(again, found, atol=1e-4)


def test_17_the_public_prior_was_trained_under_that_convention(public):
    generator, frames = public
    field, z = generator.field(frames, np.arange(48), at_sites=False), generator._latents(frames)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        at_noise, at_data = field(noise, torch.ones(48)), field(z, torch.zeros(48))

    def alike(a, b):
        return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()

    assert alike(at_noise, noise) > 0.5  # the slope e - x at t = 1, where e is seen and x is not
    assert alike(at_data, z) < -0.5


# 18 - the best ejection fraction and the best pictures were of different models, and each was reported


def test_18_a_release_that_is_good_at_one_thing_alone_does_not_pass():
    policy = Policy.parse((ROOT / "conf/policy/default.yaml").read_text())
    good = Number(value=0.0, low=-0.005, high=0.005, n=300)
    found = {
        "disclosure.eps_lb": Finding(metric="disclosure.eps_lb", estimate=Number(value=0.0, low=0.0, high=0.5, n=300),
                                     controls={"positive_control": True}),
        "dp.audit_excess": Finding(metric="dp.audit_excess", estimate=Number(value=-1, low=-1, high=-1, n=300),
                                   controls={"halved_noise": True}),
        **{m: Finding(metric=m, estimate=Number(value=v, low=v, high=v, n=0))
           for m, v in (("dp.eps", 4.0), ("dp.delta_n", 0.01), ("dp.covered", 1.0))},
        **{m: Finding(metric=m, estimate=good) for m in ("utility.segmentation", "utility.view")},
    }  # fmt: skip
    assert decide(policy, found.values(), lane=Lane.FORMAL).verdict is Verdict.PASS
    poor = Number(value=-0.3, low=-0.35, high=-0.25, n=300)
    for metric in ("utility.segmentation", "utility.view"):
        one_sided = {**found, metric: Finding(metric=metric, estimate=poor)}
        assert decide(policy, one_sided.values(), lane=Lane.FORMAL).verdict is Verdict.FAIL


def test_18_obedience_is_told_beside_what_the_pictures_look_like():
    assert {"r", "MAE", "KID x 1000"} <= {name.split(",")[0] for name in obedience.IMAGE_HEAD}


# 19 - the split followed from a part of the path


def test_19_a_folder_called_train_changes_no_split(tmp_path):
    from synthesis import release

    found = []
    for name in ("train_x", "val", "elsewhere"):
        frames = simulate.stills(12, seed=3, size=16)
        release.write(tmp_path / name, frames, origin=Origin.SYNTHETIC)
        reader = READERS["release"] if "release" in READERS else READERS["manifest"]
        cohort = reader(root=str(tmp_path / name)).read(pseudonyms=Pseudonyms(b"k" * 16))
        found.append((splits(cohort, key=b"k" * 16), gather(cohort, size=16).pixels.tobytes()))
        assert takes_of(tmp_path / name)
    assert found[0] == found[1] == found[2]


# 20 - anatomy was mirrored


def test_20_no_augmentation_mirrors_anatomy():
    corners = torch.zeros(500, 64, 64, dtype=torch.uint8)
    for label, (y, x) in enumerate(((20, 24), (20, 40), (44, 24)), 1):
        corners[:, y - 3 : y + 3, x - 3 : x + 3] = label
    moved, labels = place(corners.unsqueeze(1).float(), corners, generator=torch.Generator().manual_seed(0))
    rows, columns = np.mgrid[:64, :64]
    for mask in labels.numpy():
        places = [np.array([columns[mask == k].mean(), rows[mask == k].mean()]) for k in (1, 2, 3)]
        right, down = places[1] - places[0], places[2] - places[0]
        assert right[0] * down[1] - right[1] * down[0] > 0  # as it was, clockwise
        assert right[0] > 0 < down[1]
    assert moved.shape == (500, 1, 64, 64)


def test_20_nothing_in_the_house_flips_a_picture():
    called = {
        (path.relative_to(ROOT).as_posix(), ast.unparse(node))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and "flip" in ast.unparse(node.func).rsplit(".", 1)[-1].lower()
    }
    assert called <= {  # time turned around, never space
        ("learning/learners/phase_detector.py", "x.flip(1)"),
        ("learning/learners/phase_detector.py", "p.flip(1)"),
        ("synthesis/video_windows.py", "ramp.flip(0)"),
    }


def test_every_law_that_is_held_elsewhere_is_still_there():
    for trap, files in ELSEWHERE.items():
        for name, tests in files.items():
            tree = ast.parse((ROOT / "tests" / name).read_text("utf-8"))
            there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert set(tests) <= there, (trap, name)
    here = ast.parse(Path(__file__).read_text("utf-8")).body
    held = {int(node.name[5:7]) for node in here if isinstance(node, ast.FunctionDef) and node.name[5:7].isdigit()}
    assert held == set(range(1, 21))
