"""Hearts that move, from studies to a certificate: released as EchoNet-Dynamic has them, and judged by their motion."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from cohorts.deidentify import Pseudonyms
from cohorts.readers import READERS
from pericard.cli import run
from pericard.errors import Exit

pytestmark = pytest.mark.slow

TINY = (
    "experiment=echo_video", "threads=1", "cohort.subjects=60", "cohort.frames=6", "release.frames=6",
    "generator.prior=false", "generator.width=16", "generator.depth=1", "generator.heads=2",
    "generator.autoencoder_width=8", "generator.sample_steps=2", "generator.phases=4", "release.subjects=10",
    "release.candidates=16", "views.width=4", "segmentation.width=4", "segmentation.steps=4", "recognition.width=4",
    "recognition.steps=4", "ejection.width=4", "ejection.stages=2", "ejection.steps=4", "train_views.exchanges=1",
    "release.least_view_probability=0",
    "release.similarity=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("moving") / "out"
    assert run(["simulate", *TINY, "--json", "--out", str(out)]) in (Exit.FAIL, Exit.INCONCLUSIVE)
    return out


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_moving_hearts_are_released_as_echonet_dynamic_has_them_and_verify(simulated):
    assert run(["verify", str(simulated)]) == Exit.PASS
    for view in ("A2C", "A4C"):
        folder = simulated / "release" / view
        cohort = READERS["echonet_dynamic"](root=str(folder), view=view, origin="synthetic").read(
            pseudonyms=Pseudonyms(b"0123456789abcdef")
        )
        assert len(cohort.subjects) == 10
        (study,) = cohort.of(cohort.subjects[0])
        assert study.clips[0].pixels.shape == (6, 112, 112)
        assert 15 <= study.labels["lvef_percent"] <= 75
        assert run(["cohort", "check", str(folder), f"view={view}", "--reader", "echonet_dynamic"]) != Exit.REFUSED


def test_the_certificate_judges_ejection_fractions_of_clips_and_says_what_it_did_not_look_at(simulated):
    statement = json.loads((simulated / "campaign").glob("*-certify/statement.json").__next__().read_text())
    predicate = statement["predicate"]
    arms = {u["arm"]: u for u in predicate["utility"] if u["task"] == "ejection_fraction_clip"}
    assert set(arms) == {"release", "phantom", "real_local", "trivial"}
    assert {f["metric"] for f in predicate["findings"]} >= {
        "utility.ejection_fraction",
        "utility.ejection_fraction_gain",
    }
    assert any("not at what lies between" in limit for limit in predicate["limits"])
    audited = {record["training"] for record in predicate["dp"]["audited"]}
    assert audited == {"train.views", "train.generator"}
    with Image.open(simulated / "samples.gif") as picture:
        assert picture.n_frames == 6
    report = (simulated / "report.html").read_text()
    assert "How it moves" in report
    assert report.count('over one beat"') == 2


def test_killed_while_it_draws_it_resumes_to_the_same_bytes(simulated, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(simulated, out)
    drawn, released = _bytes(out / "campaign" / "06-sample"), _bytes(out / "release")
    for folder in sorted((out / "campaign").glob("*-*"))[6:]:
        shutil.rmtree(folder)
    for name in ("release", "certificate.json", "report.html"):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    torn = out / "campaign" / "06-sample"
    (torn / "done.json").unlink()
    (torn / "candidates.safetensors").rename(torn / "candidates.safetensors.part")
    assert run(["simulate", "--resume", "--json", "--out", str(out)]) in (Exit.FAIL, Exit.INCONCLUSIVE)
    assert _bytes(torn) == drawn
    assert _bytes(out / "release") == released
    assert run(["verify", str(out)]) == Exit.PASS


def test_a_task_of_clips_is_refused_where_nothing_moves(tmp_path, capsys):
    tasks = "assess.tasks=[segmentation,recognition,ejection]"
    assert run(["simulate", "experiment=smoke", tasks, "--out", str(tmp_path / "out")]) == Exit.USAGE
    assert "draws nothing that moves" in capsys.readouterr().err


def test_more_clips_are_drawn_from_the_run(simulated, tmp_path):
    assert run(["sample", str(simulated), "--count", "3", "--out", str(tmp_path / "more"), "--json"]) == Exit.PASS
    videos = sorted((tmp_path / "more" / "release").rglob("*.avi"))
    assert [path.parts[-3] for path in videos] == ["A2C", "A2C", "A4C"]
