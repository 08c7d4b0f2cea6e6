import dataclasses
from pathlib import Path

import pytest

from evaluation import compare
from evaluation.certificate import CERTIFICATE, TRUST
from evaluation.compare_page import draw
from evaluation.policy import Lane
from evaluation.predicate import Audit, Utility
from evaluation.trust import SigningKey, Trust
from pericard.cli import run
from tests.browser import CHROMIUM, Browser
from tests.certified import certify, formal, full, statement


def scored(score: float) -> tuple[Utility, ...]:
    return tuple(
        Utility(
            task="segmentation", arm=arm, metric=metric, n_patients=60, n_seeds=1, estimate=s, ci=(s - 0.02, s + 0.02)
        )
        for arm, s in (("TSTR", score), ("TRTR", 0.84), ("phantom", 0.5))
        for metric in ("dice", "dice_atrium")
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    leak = Audit(name="disclosure", version="1", n_member=120, n_control=120, split="keyed hash", estimate=1.8,
                 ci=(1.8, 3.0), positive_control=True, eps_lb=1.8, eps_ceiling=3.6, p=0.001, p_holm=0.002)  # fmt: skip
    stated = {
        "a/cheap": statement(
            dp=formal(eps=1.0, per_view={"server": 1.0, "public": 1.0, "release": 1.0}), utility=scored(0.7)
        ),
        "a/dear": statement(utility=scored(0.82)),
        "b/filtered": statement(lane=Lane.EMPIRICAL, utility=scored(0.83), audits=(leak,)),
        "b/unmeasured": statement(utility=(), audits=()),
    }
    for name, one in stated.items():
        made = certify(root / name, n_files=1)
        made.resign(dataclasses.replace(one, subject=one.subject))
    (root / "broken").mkdir()
    (root / "broken" / CERTIFICATE).write_text("{}")
    return root


def test_every_run_below_a_folder_is_read_and_the_others_are_named(folder: Path) -> None:
    runs, problems = compare.read(folder)
    assert [r.name for r in runs] == ["a/cheap", "a/dear", "b/filtered", "b/unmeasured"]
    assert all(r.signed for r in runs)
    assert [p.partition(":")[0] for p in problems] == ["broken"]


def test_what_each_run_cost_proved_and_is_good_for(folder: Path) -> None:
    runs = {r.name: r for r in compare.read(folder)[0]}
    assert [runs[n].epsilon for n in ("a/cheap", "a/dear", "b/filtered")] == [1.0, 6.5, 6.5]
    assert (runs["b/filtered"].proved, runs["b/filtered"].p) == ((1.8, 3.6), 0.002)
    assert runs["b/filtered"].outcome == "found something"
    assert runs["b/unmeasured"].outcome == "none tried"
    assert {t: u.estimate for t, u in runs["a/dear"].scores.items()} == {("segmentation", "dice"): 0.82}
    real = runs["a/dear"].real(("segmentation", "dice"))
    assert real is not None
    assert real.estimate == 0.84


def test_runs_are_ordered_by_epsilon_and_tasks_by_how_many_have_them(folder: Path) -> None:
    runs, _ = compare.read(folder)
    assert compare.ordered(runs)[0].name == "a/cheap"
    assert compare.tasks(runs) == (("segmentation", "dice"),)


def test_a_run_whose_signatures_do_not_fit_says_so(folder: Path) -> None:
    other = Trust.of({"x": SigningKey.create().public}, {}, least_sites=0)
    assert not any(r.signed for r in compare.read(folder, trust=other)[0])
    assert "signatures were not found to fit" in draw(compare.read(folder, trust=other)[0])
    held = folder / "b/unmeasured" / TRUST
    held.rename(folder / "kept")
    assert [r.signed for r in compare.read(folder)[0]] == [True, True, True, False]
    (folder / "kept").rename(held)


def test_the_page_draws_each_task_and_the_same_runs_draw_the_same_bytes(folder: Path) -> None:
    runs, problems = compare.read(folder)
    page = draw(runs, problems)
    assert page == draw(runs[::-1], problems)
    assert "Segmentation: Dice" in page
    assert "Not read: broken" in page
    assert "<script" not in page
    assert page.count("<svg") == 1
    assert "No run was judged by a task." in draw([r for r in runs if not r.scores])


def test_the_command_prints_a_table_writes_the_page_and_says_what_is_wrong(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", str(folder), "--out", str(tmp_path / "x.html")]) == 0
    streams = capsys.readouterr()
    for word in ("a/cheap", "0.820", "PASS", "found something", "of the generator only"):
        assert word in streams.out
    assert "not read: broken" in streams.err
    assert (tmp_path / "x.html").read_text("utf-8").startswith("<!doctype html>")
    assert run(["compare", str(folder), "--json"]) == 0
    assert '"epsilon_proved": 1.8' in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert run(["compare", str(tmp_path / "empty")]) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_fits_a_phone_and_paper(folder: Path, tmp_path: Path) -> None:
    page = draw(*compare.read(folder))
    for width in (390, 680):
        found = Browser(tmp_path).measure(page, width)
        assert (found["width"], found["wide"]) == (width, [])


def test_names_of_folders_cannot_become_markup(tmp_path: Path) -> None:
    made = certify(tmp_path / "<script>alert(1)<", n_files=1)
    made.resign(dataclasses.replace(full()))
    assert "<script" not in draw(compare.read(tmp_path)[0])
