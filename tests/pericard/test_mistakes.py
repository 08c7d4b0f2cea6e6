"""What a hospital gets to see when its input is wrong: one clear line, the right code, no traceback, no output."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pericard.cli import run
from pericard.errors import Exit

COLUMNS = ("patient", "view", "phase", "image", "mask", "ef_reported", "image_quality_4ch", "frame_rate_hz_4ch")
SIZE = 24


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Twelve people in the layout of CAMUS, spread over its three simulated sites."""
    root = tmp_path / "studies"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE), np.uint8)
    masks = np.zeros((SIZE, SIZE), np.uint8)
    masks[8:16, 8:16] = 1
    rows = []
    for k in range(12):
        for view in ("2CH", "4CH"):
            for phase in ("ED", "ES"):
                name = f"{k}_{view}_{phase}"
                Image.fromarray(pixels).save(root / f"{name}.png")
                Image.fromarray(masks).save(root / f"{name}_gt.png")
                quality, rate = ("Good", "40") if k % 3 == 0 else ("Poor", "70" if k % 3 == 1 else "40")
                rows.append((f"p{k}", view, phase, f"{name}.png", f"{name}_gt.png", "55", quality, rate))
    _write(root, COLUMNS, rows)
    return root


def _write(root: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def _without_a_column(root: Path) -> None:
    with (root / "labels.csv").open(encoding="utf-8") as file:
        rows = [row[:3] + row[4:] for row in csv.reader(file)]
    _write(root, tuple(rows[0]), [tuple(row) for row in rows[1:]])


def _torn_picture(root: Path) -> None:
    (root / "3_4CH_ES.png").write_bytes(b"no picture at all")


def _mask_of_another_size(root: Path) -> None:
    Image.fromarray(np.zeros((SIZE, SIZE + 1), np.uint8)).save(root / "5_2CH_ED_gt.png")


def _missing_picture(root: Path) -> None:
    (root / "0_2CH_ED.png").unlink()


def _way_out(root: Path) -> None:
    text = (root / "labels.csv").read_text("utf-8")
    (root / "labels.csv").write_text(text.replace("0_2CH_ED.png", "../../etc/passwd"), "utf-8")


def _empty_table(root: Path) -> None:
    _write(root, COLUMNS, [])


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a column is missing": (_without_a_column, "'image'"),
    "a picture is unreadable": (_torn_picture, "3_4CH_ES.png"),
    "a mask has another size": (_mask_of_another_size, "5_2CH_ED_gt.png"),
    "a picture is missing": (_missing_picture, "0_2CH_ED.png"),
    "a path leads out of the root": (_way_out, "leads out of the root"),
    "the table has no rows": (_empty_table, "labels.csv"),
}


def _one_line(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    lines = [line for line in shown.err.splitlines() if line.startswith("pericard:")]
    assert len(lines) == 1, shown.err
    assert shown.out == ""
    return lines[0]


@pytest.mark.parametrize("mistake", BROKEN)
def test_studies_that_cannot_be_read_end_with_5_and_the_file(
    mistake: str, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks, names = BROKEN[mistake]
    breaks(studies)
    out = tmp_path / "out"
    assert run(["simulate", "experiment=camus", f"cohort.root={studies}", "--out", str(out)]) == Exit.UNREADABLE
    assert names in _one_line(capsys)
    assert not out.exists()


def test_a_missing_root_ends_with_5_and_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "nowhere"
    code = run(["simulate", "experiment=camus", f"cohort.root={root}", "--out", str(tmp_path / "out")])
    assert code == Exit.UNREADABLE
    assert str(root) in _one_line(capsys)


USAGE = {
    "no root": (["experiment=camus"], "cohort.root is missing: add cohort.root=VALUE"),
    "an unknown override": (["budget.epsilom=4"], "did you mean budget.epsilon?"),
    "an unknown experiment": (["experiment=camu"], "did you mean camus?"),
    "a value out of bounds": (["budget.delta=2"], "budget.delta=2.0 must be above 0 and below 1"),
    "an unknown policy": (["experiment=smoke", "policy=leniant"], "policy 'leniant' is neither shipped"),
    "an unknown scanner": (["experiment=smoke", "cohort.site=mars"], "mars"),
    "nothing to resume": (["--resume"], "holds no run to resume"),
}


@pytest.mark.parametrize("mistake", USAGE)
def test_a_wrong_word_ends_with_2_and_what_would_do(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, says = USAGE[mistake]
    assert run(["simulate", *arguments, "--out", str(tmp_path / "out")]) == Exit.USAGE
    assert says in _one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_an_unknown_rule_for_the_sites_ends_with_2(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["experiment=camus", f"cohort.root={studies}", "sites.rule=by_mood", "--out", str(tmp_path / "out")]
    assert run(["simulate", *arguments]) == Exit.USAGE
    assert "by_mood" in _one_line(capsys)


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", "utf-8")
    assert run(["simulate", "experiment=smoke", "--out", str(tmp_path)]) == Exit.USAGE
    assert "is not empty" in _one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_budget_that_pays_for_nothing_ends_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["experiment=smoke", "budget.epsilon=0.0001", "--out", str(tmp_path / "out")]
    assert run(["simulate", *arguments]) == Exit.REFUSED
    assert "epsilon" in _one_line(capsys)
    assert not any((tmp_path / "out").iterdir())
