"""What a site is told would leave is what does leave: held against whole campaigns, message by message."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from client.app import app as client_app
from client.journal import FILE, OUT, SERVED, verify
from client.leaves import ASKS, ASKS_NOBODY, leaves_of
from client.outgoing import FREE, lines_of
from client.site import Site
from conf.compose import compose, to_json
from pericard import hospitals
from pericard.simulate import groups
from server import plan, stages
from server.app import app as server_app
from server.campaign import Campaign
from server.grid import run_in_process
from server.rounds import QuorumLost
from tests.hospitals import hospital
from tests.pericard.test_echo_video import TINY
from tests.server.test_experts_campaign import SMALL

ENVELOPE_BYTES = 2048  # of Flower, around one answer
QUICK = ("release.least_view_probability=0", "release.similarity=1", "release.candidates=16", "release.subjects=8")
EXPERIMENTS = {
    "smoke": ("experiment=smoke", *QUICK, "budget.shapes_share=0.1"),
    "votes": (
        "experiment=smoke", "screening={votes_epsilon: 1.0, gate_epsilon: 0.5, apart: 0.999, decoys: 10}", *QUICK,
        "release.candidates=64", "assess.tasks=[]",
    ),
    "echo_video": TINY,
    "experts": (
        "experiment=experts", *SMALL[2:], *QUICK, "generator.prior=false", "generator.width=32", "generator.depth=1",
        "generator.heads=2", "generator.autoencoder_width=8", "generator.sample_steps=2", "views.width=4",
        "train_views.exchanges=1", "train_generator.exchanges=1", "threads=1",
    ),
}  # fmt: skip


def planned(overrides: tuple[str, ...], out: Path) -> tuple[Campaign, list[Path]]:
    experiment, _ = compose([*overrides], groups=groups())
    resolved = json.loads(to_json(experiment, groups=groups()))
    campaign = plan.campaign(experiment, run="run-1", out=str(out), resolved=resolved)
    return campaign, hospitals.make(experiment, next(iter(resolved["cohort"])), out)


def test_of_every_stage_that_there_is_it_is_known_what_leaves() -> None:
    there = {path.stem for path in Path(stages.__file__).parent.glob("*.py")} - {"__init__"}
    assert there == ASKS.keys() | ASKS_NOBODY


@pytest.mark.parametrize("name", ["phantom", "votes", "echo_video", "experts"])
def test_of_every_experiment_each_exchange_is_told(tmp_path: Path, name: str) -> None:
    """Cheap, for no campaign is run: every stage that asks sites has a line, of trainings one reply an exchange."""
    experiment, _ = compose([f"experiment={name}"], groups=groups())
    resolved = json.loads(to_json(experiment, groups=groups()))
    told = json.loads(plan.campaign(experiment, run="run-1", out="", resolved=resolved).to_json())["stages"]
    site = hospital(tmp_path, "aurora")
    site = Site(site.folder)
    found = leaves_of(site, told)
    lines = {(line.stage, line.message): line for line in found}
    assert len(lines) == len(found)
    for stage in told:
        if "aurora" in stage["settings"].get("only", ["aurora"]) and stage["do"] in ("train", "arrive"):
            assert lines[stage["name"], "train"].exchanges == stage["settings"]["rounds"]
    asked = {line.message for line in found}
    assert {"query.reserve", "train", "query.guess", "evaluate", "query.attack", "query.sign"} <= asked
    assert ("query.screen" in asked) == (name == "votes")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_that_a_campaign_sends_was_told_before_and_all_that_was_told_is_sent(tmp_path: Path, name: str) -> None:
    campaign, sites = planned(EXPERIMENTS[name], tmp_path / "out")
    up: list[int] = []
    try:
        run_in_process(
            server_app, client_app, campaign.to_json(), sites,
            wiretap=lambda way, part: up.append(len(part)) if way == "up" else None,
        )  # fmt: skip
    except QuorumLost as lost:
        pytest.fail(f"a site refused what belongs to its campaign: {lost}")
    told = json.loads(campaign.to_json())["stages"]
    answers = written = 0
    for folder in sites:
        site = Site(folder)
        entries = verify((folder / FILE).read_bytes(), site.signing_key.public).entries
        left = defaultdict(set)
        for entry in (e for e in entries if e.way == OUT):
            answers, written = answers + 1, written + entry.n_bytes
            assert entry.code == SERVED
            left[entry.kind, entry.stage].add((entry.digest, entry.n_bytes))
        lines = {(line.message, line.stage): line for line in lines_of(leaves_of(site, told))}
        assert set(lines) == {key for key in left if key[0] != FREE}
        for key, line in lines.items():
            assert len(left[key]) <= line.exchanges
            assert max(size for _, size in left[key]) <= line.most_bytes
            if key[0] == "train":  # arrays are told to the byte, but for the JSON around them
                assert len(left[key]) == line.exchanges
                assert max(size for _, size in left[key]) == line.bytes
    assert written <= sum(up) <= written + ENVELOPE_BYTES * answers
