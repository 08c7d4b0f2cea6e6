"""`pericard sample` of hearts that move: clips of whole beats, any number, the same whatever stopped it."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import pericard.sample
from cohorts.deidentify import Pseudonyms
from cohorts.readers import READERS
from conf.schema import Classes
from learning import arrays, durable
from learning.schema import canonical
from pericard.cli import run
from pericard.errors import Exit
from server.campaign import Campaign, Stage, _digests
from synthesis import bundle as bundles
from synthesis import release
from synthesis.generators.latent_video_flow import LatentVideoFlow, LatentVideoFlowGenerator
from synthesis.manifest import MANIFEST, Manifest

TINY = LatentVideoFlow(
    prior=False,
    width=16,
    depth=1,
    heads=2,
    autoencoder_width=8,
    size=32,
    sample_steps=1,
    phases=4,
    precision="fp32",
    tune=".",
)
WEIGHTS = {
    name: np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    for name, array in arrays.state(TINY.build().module).items()
}
BEAT = {"frames": 5, "lvef_percent": [20.0, 70.0]}


@pytest.fixture
def moving(tmp_path, monkeypatch) -> Path:
    """A bundle of a generator that draws in no time; parts are of two hearts, four clips."""
    monkeypatch.setattr(pericard.sample, "HEARTS_AT_ONCE", 2)
    bundle = bundles.Bundle(
        kind="clip_generator", generator="latent_video_flow", config=dataclasses.asdict(TINY), weights=WEIGHTS, seed=4,
        classes=dataclasses.asdict(Classes()), size=32, plan=None, epsilon=None, delta=None, priors={}, beat=BEAT,
    )  # fmt: skip
    bundles.write(tmp_path / "moving", bundle, subjects=[])
    return tmp_path / "moving"


def _sample(*arguments: object) -> int:
    return run(["sample", *map(str, arguments), "--precision", "fp32"])


def _files(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in (out / "release").rglob("*") if p.is_file()}


def _listed(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "FileList.csv").read_text().splitlines()))


def test_an_odd_number_of_clips_is_drawn_in_the_layout_of_echonet_dynamic(moving, tmp_path, capsys):
    out = tmp_path / "o"
    assert _sample(moving, "--count", 7, "--out", out, "--json") == Exit.PASS
    said = json.loads(capsys.readouterr().out)
    assert said["sampling_seconds"] > 0
    assert (said["drawn"], said["count"], said["certified"]) == (7, 7, False)
    assert not Manifest.parse((out / "release" / MANIFEST).read_bytes()).compare(out / "release")
    a2c, a4c = (_listed(out / "release" / view) for view in ("A2C", "A4C"))
    assert [row["FileName"] for row in a2c] == [f"synthetic{k:06d}" for k in range(4)]
    assert a4c == [{**row, "ESV": "", "EDV": ""} for row in a2c[:3]]  # one heart: its fraction, rate and split
    assert len({row["EF"] for row in a2c}) == 4
    assert all(20 <= float(row["EF"]) <= 70 for row in a2c)
    for view, n in (("A2C", 4), ("A4C", 3)):
        reader = READERS["echonet_dynamic"](root=str(out / "release" / view), view=view, origin="synthetic")
        cohort = reader.read(pseudonyms=Pseudonyms(b"k" * 32))
        assert len(cohort.subjects) == n
        assert cohort.of(cohort.subjects[0])[0].clips[0].pixels.shape == (5, 112, 112)
    assert len(list((out / "release" / "images").iterdir())) == 14  # end diastole and end systole of each clip
    assert not (out / "parts").exists()


def test_a_clip_does_not_depend_on_how_many_are_drawn(moving, tmp_path):
    for name, n in {"few": 5, "many": 11}.items():
        assert _sample(moving, "-n", n, "-o", tmp_path / name, "--json") == Exit.PASS
    few, many = _files(tmp_path / "few"), _files(tmp_path / "many")
    pictures = [name for name in few if name.endswith((".avi", ".png"))]
    assert len(pictures) == 5 + 2 * 10
    assert all(few[name] == many[name] for name in pictures)
    for view, n in (("A2C", 3), ("A4C", 2)):
        assert _listed(tmp_path / "few" / "release" / view) == _listed(tmp_path / "many" / "release" / view)[:n]


@pytest.mark.parametrize("where", ["drawing", "writing"])
def test_what_was_stopped_goes_on_and_gives_the_same_bytes(moving, tmp_path, monkeypatch, where):
    assert _sample(moving, "-n", 9, "-o", tmp_path / "whole", "--json") == Exit.PASS
    real, calls = LatentVideoFlowGenerator.sample, []

    def drawn(self, conditions, **told):
        calls.append(told["offset"])
        if where == "drawing" and len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, conditions, **told)

    write, videos = release.echonet_dynamic.write_video, []

    def written(path, frames, **told):
        videos.append(path)
        if where == "writing" and len(videos) == 7:  # in the second view
            raise KeyboardInterrupt
        write(path, frames, **told)

    monkeypatch.setattr(LatentVideoFlowGenerator, "sample", drawn)
    monkeypatch.setattr(release.echonet_dynamic, "write_video", written)
    assert _sample(moving, "-n", 9, "-o", tmp_path / "o", "--json") == Exit.STOPPED
    assert not (tmp_path / "o" / "release").exists()
    assert _sample(moving, "-n", 9, "-o", tmp_path / "o", "--json") == Exit.PASS
    assert calls == ([0, 4, 4, 8] if where == "drawing" else [0, 4, 8])
    assert _files(tmp_path / "o") == _files(tmp_path / "whole")


def test_a_run_and_its_bundle_draw_the_same_beats(moving, tmp_path):
    stages = (
        Stage(name="reserve", do="reserve", settings={"plans": []}),
        Stage(name="generator", do="train", settings={"plan": None, "prior": ""}),
        Stage(
            name="sample", do="film",
            settings={"name": "latent_video_flow", "config": dataclasses.asdict(TINY), "trained": "generator",
                      "subjects": 2, "classes": dataclasses.asdict(Classes()), **BEAT},
        ),
    )  # fmt: skip
    campaign = Campaign(
        run="tiny", out=str(tmp_path / "run"), seed=4, size=32, quorum=1, seconds=1.0, threads=1, delta=1e-5,
        experiment={}, stages=stages,
    )  # fmt: skip
    for number, name in enumerate(("reserve", "generator"), 1):
        folder = tmp_path / "run" / "campaign" / f"{number:02d}-{name}"
        folder.mkdir(parents=True)
        if name == "reserve":
            durable.write(folder / "sites.json", canonical({"site-a": {"public_subjects": 99}}).encode())
        else:
            arrays.write(folder / "weights.safetensors", WEIGHTS)
        durable.write(folder / "done.json", canonical({"files": _digests(folder)}).encode())
    durable.write(tmp_path / "run" / "campaign" / "campaign.json", campaign.to_json().encode())
    assert _sample(tmp_path / "run", "-n", 3, "-o", tmp_path / "a", "--bundle", tmp_path / "b", "--json") == Exit.PASS
    for name in ("b", "moving"):
        assert _sample(tmp_path / name, "-n", 3, "-o", tmp_path / f"of-{name}", "--json") == Exit.PASS
        assert _files(tmp_path / f"of-{name}") == _files(tmp_path / "a")


def test_the_public_prior_of_moving_hearts_draws_and_says_that_no_patient_is_in_it(tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(
        LatentVideoFlowGenerator, "sample", lambda self, c, **_: drawn.append(self.config) or np.zeros_like(c.pixels)
    )
    assert _sample("--prior", "--moving", "-n", 1, "-o", tmp_path / "o") == Exit.PASS
    said = capsys.readouterr().out
    assert "1 clips" in said
    assert "no patient" in said
    assert drawn[0].prior
    assert [path.name for path in (tmp_path / "o" / "release" / "A2C" / "Videos").iterdir()] == ["synthetic000000.avi"]


def test_a_solver_that_clips_do_not_have_is_one_line(moving, tmp_path, capsys):
    assert _sample(moving, "-n", 1, "-o", tmp_path / "o", "--solver", "jump") == Exit.USAGE
    error = capsys.readouterr().err
    assert "sample_solver='jump'" in error
    assert error.count("\n") == 1
