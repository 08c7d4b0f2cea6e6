"""`pericard metrics`: the rows of a run as a table, as JSON, for TensorBoard; a folder without a run is a mistake."""

import json
from pathlib import Path

import pytest

from pericard import cli
from server.metrics import append

ROW = {"stage": "views", "exchange": 1, "sites": 3, "public_loss": 0.123, "epsilon": 1.5, "step": 0.1,
       "agreement": 0.9, "megabytes": 2.0, "seconds": 4.0}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "campaign"
    folder.mkdir(parents=True)
    (folder / "campaign.json").write_text("{}")
    append(folder, ROW)
    append(folder, {**ROW, "exchange": 2, "public_loss": 0.1})
    return tmp_path / "out"


def test_the_table_shows_every_exchange_within_eighty_columns(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["metrics", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "0.123" in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_json_is_the_rows(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["metrics", str(out), "--json", "--follow"]) == 0
    assert [row["public_loss"] for row in json.loads(capsys.readouterr().out)] == [0.123, 0.1]


def test_tensorboard_reads_the_same_numbers(out: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert cli.run(["metrics", str(out), "--tensorboard", str(tmp_path / "events")]) == 0
    found = EventAccumulator(str(tmp_path / "events")).Reload()
    scalars = [(event.step, event.value) for event in found.Scalars("views/public_loss")]
    assert scalars == [(1, pytest.approx(0.123)), (2, pytest.approx(0.1))]


def test_a_folder_without_a_run_is_a_mistake_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["metrics", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
