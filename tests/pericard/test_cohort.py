import json

import numpy as np
import pytest
from PIL import Image

from pericard.cli import run
from pericard.errors import Exit


@pytest.fixture
def folder(tmp_path):
    dice = np.random.default_rng(1)
    rows = ["patient,view,phase,image,mask,ef_reported"]
    for person in ("p1", "p2", "p3"):
        for phase in ("ED", "ES"):
            name = f"{person}_{phase}.png"
            Image.fromarray(dice.integers(0, 256, (40, 40), dtype=np.uint8)).save(tmp_path / name)
            rows.append(f"{person},4CH,{phase},{name},,55")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def checked(capsys, *arguments):
    code = run(["cohort", "check", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_folder_without_harm_is_recognised_and_passes(folder, capsys):
    code, told = checked(capsys, folder)
    assert code == Exit.PASS
    assert (told["reader"], told["subjects"], told["clips"]) == ("manifest", 3, 3)
    assert {fault["harm"] for fault in told["faults"]} <= {"BALANCE", "LOOK"}  # noise may look like anything


def test_all_problems_are_named_at_once_and_the_exit_code_says_that_a_run_would_be_refused(folder, capsys):
    (folder / "p1_ED.png").unlink()
    table = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(table.replace("p2,4CH,ES,p2_ES.png,,55", "p2,4CH,ES,p2_ES.png,,550"))
    code, told = checked(capsys, folder)
    assert code == Exit.UNREADABLE
    reasons = [fault["reason"] for fault in told["faults"] if fault["harm"] == "STOPS"]
    assert any("no such file" in reason for reason in reasons)
    assert any("'550' is not a number in 0..100" in reason for reason in reasons)


def test_one_heart_under_two_names_fails(folder, capsys):
    for phase in ("ED", "ES"):
        (folder / f"p3_{phase}.png").write_bytes((folder / f"p1_{phase}.png").read_bytes())
    code, told = checked(capsys, folder)
    assert code == Exit.FAIL
    assert told["faults"][0]["kind"] == "same picture"
    assert "p1" in told["faults"][0]["remedy"]
    code, told = checked(capsys, folder, "same_subject=[[p1,p3]]")
    assert code == Exit.PASS


def test_the_table_names_files_beneath_the_folder_and_what_to_do(folder, capsys, tmp_path):
    (folder / "p1_ED.png").write_bytes(b"no picture")
    assert run(["cohort", "check", str(folder), "--out", str(tmp_path / "faults.json")]) == Exit.UNREADABLE
    shown = capsys.readouterr().out
    assert "p1_ED.png" in shown
    assert str(folder) not in shown
    assert json.loads((tmp_path / "faults.json").read_text())["faults"]


def test_a_folder_of_no_known_layout_asks_for_the_reader(tmp_path, capsys):
    assert run(["cohort", "check", str(tmp_path)]) == Exit.USAGE
    assert "--reader" in capsys.readouterr().err


def test_a_mistyped_setting_is_answered_with_the_nearest(folder, capsys):
    assert run(["cohort", "check", str(folder), "--reader", "manifest", "subjekt=x"]) == Exit.USAGE
    assert "did you mean subject" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_unreadable(tmp_path, capsys):
    assert run(["cohort", "check", str(tmp_path / "gone")]) == Exit.UNREADABLE
    assert "is not a folder" in capsys.readouterr().err


def test_describe_counts_and_draws(folder, capsys, tmp_path):
    assert run(["cohort", "describe", str(folder), "--json", "--picture", str(tmp_path / "sheet.png")]) == Exit.PASS
    told = json.loads(capsys.readouterr().out)
    assert (told["subjects"], told["views"], told["numbers"]["lvef_percent"]["median"]) == (3, {"A4C": 3}, 55.0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 300
        assert len(set(np.asarray(sheet.convert("L")).ravel().tolist())) > 100


def test_describe_prints_a_table(folder, capsys):
    assert run(["cohort", "describe", str(folder)]) == Exit.PASS
    assert "A4C 3" in capsys.readouterr().out
