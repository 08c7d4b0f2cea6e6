"""One story, told over and over: three hospitals train in common, and one of them, or the engine, is different."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message

from client.app import app as client_app
from client.site import Site
from learning import arrays, messages
from learning.messages import REPLIES
from server.app import app as server_app
from server.campaign import Campaign
from server.grid import InProcessGrid, run_in_process
from server.rounds import QuorumLost
from server.simulation import run_simulation
from tests.hospitals import CANARY, NAMES, PLAN, campaign, hospital, log_of, reserve_stage, train_stage


def hospitals(root: Path, cohorts: dict[str, dict[str, Any]] | None = None) -> list[Path]:
    told = {name: {"reader": "canary", "seed": seed} for seed, name in enumerate(NAMES)} | (cohorts or {})
    return [hospital(root, name, cohort=told[name]).folder for name in NAMES]


def run(told: Campaign, sites: list[Path], **settings: Any) -> InProcessGrid:
    return run_in_process(server_app, client_app, told.to_json(), sites, **settings)


def history(out: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((out / "campaign/02-views/round.json").read_text())["history"]
    return told


def test_a_hospital_that_cannot_read_its_studies_is_listed_and_the_others_go_on(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites", {"borealis": {"reader": "canary", "broken": True}})
    with pytest.raises(QuorumLost, match=r"borealis: FAILED ref=[0-9a-f]{12}") as lost:
        run(campaign(tmp_path / "strict"), sites)
    assert CANARY not in str(lost.value)
    run(campaign(tmp_path / "out", run="run-2", quorum=2), sites)
    assert all(told["sites"] == ["aurora", "corvus"] for told in history(tmp_path / "out"))
    assert CANARY in log_of(Site(sites[1]))[0]["words"]


def test_a_hospital_that_sends_what_is_no_number_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = client_app._registered_funcs["train.default"]

    def poison(message: Message, context: Context) -> Message:
        reply = serve(message, context)
        if "corvus" in str(context.node_config["site"]) and reply.has_content():
            found = reply.content.array_records["arrays"]
            reply.content["arrays"] = ArrayRecord({n: Array(a.numpy() * np.float32("nan")) for n, a in found.items()})
        return reply

    monkeypatch.setitem(client_app._registered_funcs, "train.default", poison)
    # Its own guard would not let it out.
    monkeypatch.setattr("client.app.guard", lambda message, context, call_next: call_next(message, context))
    run(campaign(tmp_path / "out", quorum=2), hospitals(tmp_path / "sites"))
    for told in history(tmp_path / "out"):
        assert told["sites"] == ["aurora", "borealis"]
        assert "foreign reply" in told["failed"]["corvus"]
    weights = arrays.read(tmp_path / "out/campaign/02-views/weights.safetensors")
    assert all(np.isfinite(a).all() for a in weights.values())


def test_a_campaign_in_process_touches_no_network(tmp_path: Path, no_network: list[object]) -> None:
    run(campaign(tmp_path / "out"), hospitals(tmp_path / "sites"))
    assert no_network == []


def test_no_byte_that_leaves_a_hospital_names_anybody(tmp_path: Path) -> None:
    sites, sent = hospitals(tmp_path / "sites"), []
    run(campaign(tmp_path / "out"), sites, wiretap=lambda way, part: sent.append(part) if way == "up" else None)
    pseudonyms = [key for folder in sites for key in Site(folder).cohort.subjects]
    for word in (CANARY, str(tmp_path), *pseudonyms):
        assert not any(word.encode() in part for part in sent)
    assert len(pseudonyms) == 120
    held = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(word.encode() in path.read_bytes() for path in held for word in (CANARY, *pseudonyms))


def test_one_patient_more_changes_noised_arrays_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs on adjacent cohorts: every word, number and shape that leaves is the same (privacy.md 7)."""
    said = []
    for subjects in (40, 39):
        heard: list[Any] = []
        with monkeypatch.context() as ear:
            ear.setattr(messages, "encode", partial(_listen, heard, messages.encode))
            sites = hospitals(tmp_path / f"sites-{subjects}", {"aurora": {"reader": "canary", "subjects": subjects}})
            run(campaign(tmp_path / f"out-{subjects}"), sites)
        assert len(heard) == 3 * 5
        said.append([_without_keys_and_noise(message) for message in heard])
    assert said[0] == said[1]


def _listen(heard: list[Any], encode: Any, message: object) -> Any:
    if type(message) in REPLIES.values():
        heard.append(message)
    return encode(message)


def _without_keys_and_noise(message: Any) -> dict[str, Any]:
    fields = {name: getattr(message, name) for name in type(message).__dataclass_fields__}
    for random in ("public_key", "head"):  # drawn by each site, and a hash over the time
        fields.pop(random, None)
    if "arrays" in fields:
        fields["arrays"] = {n: (a.shape, a.dtype) for n, a in fields["arrays"].items()}
    return fields


def phantoms(root: Path) -> Path:
    for seed, name in enumerate(NAMES):
        hospital(root, name, cohort={"reader": "phantom", "subjects": 8, "seed": seed, "site": "site-a"})
    return root


def reference(out: Path) -> Campaign:
    part = {"name": "view_classifier", "config": {"width": 8}, "learning_rate": 1e-2, "rounds": 2}
    return campaign(out, reserve_stage(), train_stage("reference", plan=None, **part), size=64, seconds=400.0)


@pytest.mark.slow
def test_in_process_and_simulation_give_the_same_aggregated_arrays_bit_for_bit_with_noise_off(tmp_path: Path) -> None:
    sites = phantoms(tmp_path / "sites")
    shutil.copytree(sites, tmp_path / "twins")
    told: list[tuple[str, float, str]] = []
    run(reference(tmp_path / "a"), sorted(sites.iterdir()))
    run_simulation(reference(tmp_path / "b"), tmp_path / "twins", progress=lambda *step: told.append(step), seconds=500)
    here, there = (arrays.read(tmp_path / out / "campaign/02-reference/weights.safetensors") for out in ("a", "b"))
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[name], there[name]) for name in here)
    assert told[-1] == ("reference", 1.0, "done")


@pytest.mark.slow
def test_a_simulation_raises_what_its_campaign_raised(tmp_path: Path) -> None:
    sites = phantoms(tmp_path / "sites")
    told = campaign(tmp_path / "out", reserve_stage(PLAN), train_stage(steps=5), size=64, seconds=400.0)
    with pytest.raises(ValueError, match=r"pays for 6 steps.*are 15"):
        run_simulation(told, sites, seconds=500)
