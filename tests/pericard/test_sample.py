"""`pericard sample`: any number, the same whatever stopped it, and never mistaken for something certified."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pericard.sample
from cohorts.deidentify import Pseudonyms
from cohorts.readers import READERS
from learning import arrays, durable
from learning.schema import canonical
from pericard.cli import run
from pericard.errors import Exit
from privacy.mechanism import DpPlan
from server.campaign import Campaign, Stage, _digests
from synthesis import bundle as bundles
from synthesis.generators.latent_flow import LatentFlow, LatentFlowGenerator
from synthesis.manifest import MANIFEST, Manifest

TINY = LatentFlow(prior=False, width=16, depth=1, heads=2, autoencoder_width=8, sample_steps=1, tune=r"^site|^final\.")
PLAN = DpPlan(purpose="train.generator", sampling_rate=0.5, noise_multiplier=2.0, clip_norm=0.1, steps=4, draws=2)
WEIGHTS = {  # the last layer of an untrained network is zero, and would hide every mistake
    "site.weight": np.full((1, 32), 0.5, np.float32),
    "final.weight": np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32),
    "final.bias": np.ones(16, np.float32),
}
CLASSES = {"of": "view", "names": ["A2C", "A4C", "PLAX", "PSAX"], "released": ["A2C", "A4C"], "frames": 0}


@pytest.fixture
def finished(tmp_path, monkeypatch) -> Path:
    """What a finished campaign leaves of its generator, of a size that draws in no time; parts of two subjects."""
    monkeypatch.setattr(pericard.sample, "SUBJECTS_AT_ONCE", 2)
    stages = (
        Stage(name="reserve", do="reserve", settings={"plans": [PLAN.to_json()]}),
        Stage(name="generator", do="train", settings={"plan": PLAN.to_json(), "prior": ""}),
        Stage(
            name="sample", do="sample",
            settings={"name": "latent_flow", "config": dataclasses.asdict(TINY), "trained": "generator",
                      "subjects": 2, "classes": CLASSES},
        ),
        Stage(name="certify", do="certify", settings={"epsilon": 7.5}),
    )  # fmt: skip
    out = tmp_path / "run"
    campaign = Campaign(
        run="tiny", out=str(out), seed=4, size=64, quorum=1, seconds=1.0, threads=1, delta=1e-5, experiment={},
        stages=stages,
    )  # fmt: skip
    sites = {"site-a": {"public_subjects": 20}}
    (out / "release").mkdir(parents=True)
    for number, name in enumerate(("reserve", "generator"), 1):
        folder = out / "campaign" / f"{number:02d}-{name}"
        folder.mkdir(parents=True)
        if name == "reserve":
            durable.write(folder / "sites.json", canonical(sites).encode())
        else:
            arrays.write(folder / "weights.safetensors", WEIGHTS)

        durable.write(folder / "done.json", canonical({"files": _digests(folder)}).encode())
    durable.write(out / "campaign" / "campaign.json", campaign.to_json().encode())
    return out


def _sample(*arguments: object) -> int:
    return run(["sample", *map(str, arguments)])


def _record(out: Path) -> dict:
    return json.loads((out / "sampling.json").read_text())


def _files(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in (out / "release").rglob("*") if p.is_file()}


def test_a_run_draws_a_release_with_masks_that_every_loader_of_ours_reads(finished, tmp_path, capsys):
    assert _sample(finished, "-n", 14, "-o", tmp_path / "o", "--json") == Exit.PASS
    said = json.loads(capsys.readouterr().out)
    assert said["sampling_seconds"] > 0
    assert said["drawn"] == 14
    assert len(list((tmp_path / "o/release/masks").iterdir())) == 14
    manifest = Manifest.parse((tmp_path / "o/release" / MANIFEST).read_bytes())
    assert not manifest.compare(tmp_path / "o/release")
    reader = READERS["manifest"](root=str(tmp_path / "o/release"), study="study")
    assert len(reader.read(pseudonyms=Pseudonyms(b"k" * 32)).subjects) == 4


def test_it_says_that_nothing_of_it_is_certified_and_what_it_cost(finished, tmp_path, capsys):
    assert _sample(finished / "release", "-n", 2, "-o", tmp_path / "o") == Exit.PASS
    said = capsys.readouterr().out
    assert "Not certified" in said
    assert "(7.5, 1e-05)-differential privacy" in said
    assert _record(tmp_path / "o")["certified"] is False
    assert _sample(finished, "-n", 2, "-o", tmp_path / "o") == Exit.PASS  # asked again: it is there already
    assert _record(tmp_path / "o")["drawn"] == 2
    assert run(["verify", str(tmp_path / "o")]) != Exit.PASS


def test_an_image_does_not_depend_on_how_many_are_drawn(finished, tmp_path):
    assert _sample(finished, "-n", 5, "-o", tmp_path / "few", "--json") == Exit.PASS
    assert _sample(finished, "-n", 19, "-o", tmp_path / "many", "--json") == Exit.PASS
    few, many = _files(tmp_path / "few"), _files(tmp_path / "many")
    pictures = [name for name in few if name.endswith(".png")]
    assert len(pictures) == 10
    assert all(few[name] == many[name] for name in pictures)


def test_what_was_stopped_goes_on_and_gives_the_same_bytes(finished, tmp_path, monkeypatch):
    assert _sample(finished, "-n", 19, "-o", tmp_path / "whole", "--json") == Exit.PASS
    real, calls = LatentFlowGenerator.sample, []

    def stopped(self, conditions, **told):
        calls.append(told["offset"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, conditions, **told)

    monkeypatch.setattr(LatentFlowGenerator, "sample", stopped)
    assert _sample(finished, "-n", 19, "-o", tmp_path / "o", "--json") == Exit.STOPPED
    assert not (tmp_path / "o" / "release").exists()
    assert _sample(finished, "-n", 19, "-o", tmp_path / "o", "--json") == Exit.PASS
    assert calls == [0, 8, 8, 16]
    assert _files(tmp_path / "o") == _files(tmp_path / "whole")
    assert _record(tmp_path / "o")["drawn"] == 11
    assert not (tmp_path / "o" / "parts").exists()


def test_another_seed_gives_other_images_and_another_solver_too(finished, tmp_path):
    for name, more in {"a": (), "b": ("--seed", 1), "c": ("--solver", "euler", "--steps", 3)}.items():
        assert _sample(finished, "-n", 1, "-o", tmp_path / name, "--json", *more) == Exit.PASS
    a, b, c = (np.asarray(Image.open(tmp_path / n / "release/images/000000.png")) for n in "abc")
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_bundle_draws_what_its_run_draws(finished, tmp_path):
    assert _sample(finished, "-n", 3, "-o", tmp_path / "a", "--bundle", tmp_path / "bundle", "--json") == Exit.PASS
    assert _sample(tmp_path / "bundle", "-n", 3, "-o", tmp_path / "b", "--json") == Exit.PASS
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_a_changed_bundle_is_an_integrity_error(finished, tmp_path):
    assert _sample(finished, "-n", 1, "-o", tmp_path / "a", "--bundle", tmp_path / "bundle", "--json") == Exit.PASS
    arrays.write(tmp_path / "bundle" / bundles.WEIGHTS, {**WEIGHTS, "site.weight": np.zeros((1, 32), np.float32)})
    assert _sample(tmp_path / "bundle", "-n", 1, "-o", tmp_path / "b") == Exit.INTEGRITY


def test_a_bundle_that_counts_subjects_is_not_written(finished, tmp_path, capsys):
    """Trap 16: the site declares as many subjects as a tensor has sides."""
    folder = finished / "campaign" / "01-reserve"
    durable.write(folder / "sites.json", canonical({"site-a": {"public_subjects": 32}}).encode())

    (folder / "done.json").unlink()
    durable.write(folder / "done.json", canonical({"files": _digests(folder)}).encode())
    assert _sample(finished, "-n", 1, "-o", tmp_path / "a", "--bundle", tmp_path / "bundle") == Exit.REFUSED
    assert "as many rows as there were subjects" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_the_public_prior_alone_draws_and_says_that_no_patient_is_in_it(tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(
        LatentFlowGenerator, "sample", lambda self, c, **_: drawn.append(self.config) or np.zeros_like(c.pixels)
    )
    assert _sample("--prior", "-n", 6, "-o", tmp_path / "o") == Exit.PASS
    assert "no patient" in capsys.readouterr().out
    assert drawn[0].prior


def test_the_public_student_is_named_by_its_digest_where_it_draws(tmp_path):
    for name, more in {"slow": ("--steps", 1), "fast": ("--solver", "jump", "--steps", 1)}.items():
        assert _sample("--prior", "-n", 1, "-o", tmp_path / name, "--json", *more) == Exit.PASS
    slow, fast = (_record(tmp_path / name)["request"]["generator"] for name in ("slow", "fast"))
    assert slow != fast


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--solver", "rk45"), "sample_solver='rk45'"),
        (("--precision", "fp8"), "precision='fp8'"),
        (("--prior",), "not both"),
        (("--moving",), "--moving chooses among public priors"),
    ],
)
def test_a_mistake_is_one_line(finished, tmp_path, capsys, more, said):
    assert _sample(finished, "-n", 1, "-o", tmp_path / "o", *more) == Exit.USAGE
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_folder_in_use_and_a_folder_of_nothing_are_refused(finished, tmp_path, capsys):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "thesis.txt").write_text("mine")
    assert _sample(finished, "-n", 1, "-o", tmp_path / "o") == Exit.USAGE
    assert _sample(tmp_path / "o", "-n", 1, "-o", tmp_path / "p") == Exit.USAGE
    assert _sample(finished, "-n", 2, "-o", tmp_path / "q", "--json") == Exit.PASS
    assert _sample(finished, "-n", 3, "-o", tmp_path / "q") == Exit.USAGE
    assert "asked for otherwise" in capsys.readouterr().err
