"""Sites with words of their own join one after the other: nobody's expert is trained twice, and all are heard."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.app import app as client_app
from client.site import KEYS, Site
from cohorts import frames as table
from cohorts.phantom.simulate import stills
from conf.compose import UsageError, compose, to_json
from evaluation import heard
from evaluation.envelope import Envelope
from evaluation.predicate import Utility
from learning import arrays
from learning.learners.fused_experts import FusedExperts, put_in
from pericard.errors import Exit
from pericard.hospitals import make
from pericard.simulate import groups
from privacy.mechanism import epsilon, plan_from_json
from server import experts, frozen, plan
from server.app import app as server_app
from server.campaign import DONE, Campaign, Stage
from server.grid import run_in_process
from server.stages.sample import PHANTOMS
from server.stages.screen import RELEASED
from tests.hospitals import hospital

WORDS = {"site-a": ["A2C", "A4C"], "site-b": ["A4C", "PLAX"], "site-c": ["PLAX", "PSAX"]}
SMALL = (
    "experiment=smoke", "size=32", "cohort.subjects=40", "experts.width=4", "experts.stages=2", "experts.subjects=4",
    "experts.steps=2", "experts.batch_size=4", "experts.head_steps=2", "experts.hidden=[4]",
    "train_expert={exchanges: 2, steps: 1, sampling_rate: 1.0, draws: 1, learning_rate: 0.1}",
    "train_fusion={exchanges: 2, steps: 1, sampling_rate: 1.0, draws: 1, learning_rate: 0.1}",
)  # fmt: skip


def _experiment(*overrides: str, words: dict[str, list[str]] = WORDS):
    told = "".join(f"{site}: [{', '.join(names)}]," for site, names in words.items())
    return compose([*SMALL, f"experts.words={{{told[:-1]}}}", *overrides], groups=groups())[0]


def _planned(experiment) -> Campaign:
    resolved = json.loads(to_json(experiment, groups=groups()))
    return plan.campaign(experiment, run="run-1", out="/out", resolved=resolved)


def _hospitals(root: Path) -> list[Path]:
    allowed: dict[str, Any] = {
        "learners": ("expert", "fused_experts"), "tasks": ("expert_fusion",), "max_sampling_rate": 1.0,
        "min_noise_multiplier": 0.3, "max_clip_norm": 1.0,
    }  # fmt: skip
    found = []
    for name, words in WORDS.items():
        cohort = {"reader": "phantom", "site": name, "subjects": 40, "size": 32, "views": words, "seed": ord(name[-1])}
        found.append(hospital(root, "aurora", cohort=cohort, **allowed).folder.rename(root / name))
        text = (found[-1] / "site.yaml").read_text().replace("name: aurora", f"name: {name}")
        (found[-1] / "site.yaml").write_text(text)
    return found


def _parts(experiment, out: Path, run: str = "run-1", *, seed: int = 3) -> Campaign:
    """Return the stages of a campaign that concern experts, on a release that is there already."""
    whole = _planned(experiment)
    kept = ("reserve", "tutor", "assembly", "fusion", "audit", "screen", "experts")
    stages = [s for s in whole.stages if s.name in kept or s.name.startswith("expert-")]
    plans = [p for p in stages[0].settings["plans"] if p["purpose"] in (experts.TRAIN, experts.FUSE)]
    stages[0] = dataclasses.replace(stages[0], settings={**stages[0].settings, "plans": plans})
    at = next(i for i, s in enumerate(stages) if s.name == "audit")
    told = {k: p for k, p in stages[at].settings["trainings"].items() if k not in ("views", "generator")}
    stages[at] = Stage(name="audit", do="audit", settings={"trainings": told})
    folder = out / "campaign" / f"{[s.name for s in stages].index('screen') + 1:02d}-screen"
    folder.mkdir(parents=True)
    for k, file in enumerate((RELEASED, PHANTOMS)):
        table.write(folder / file, stills(3, seed=k, size=32))
    (folder / DONE).write_text(json.dumps({"files": _digests(folder)}))
    return dataclasses.replace(whole, out=str(out), run=run, seed=seed, stages=tuple(stages))


def _digests(folder: Path) -> dict[str, str]:
    from server.campaign import _digests as of

    return of(folder)


def _of(out: Path, stage: str) -> Path:
    (found,) = (out / "campaign").glob(f"[0-9][0-9]-{stage}")
    return found


@pytest.fixture(scope="module")
def joined(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("experts")
    sites = _hospitals(root / "sites")
    run_in_process(server_app, client_app, _parts(_experiment(), root / "out").to_json(), sites)
    return root


def test_each_expert_is_trained_by_its_own_site_alone(joined):
    for site in WORDS:
        history = json.loads((_of(joined / "out", f"expert-{site}") / "round.json").read_text())["history"]
        assert [told["sites"] for told in history] == [[site]] * 2
    history = json.loads((_of(joined / "out", "fusion") / "round.json").read_text())["history"]
    assert [told["sites"] for told in history] == [list(WORDS)] * 2


def test_an_expert_is_what_its_site_trained_and_stays_so_to_the_byte(joined):
    digests = json.loads((_of(joined / "out", "assembly") / "assembly.json").read_text())
    start, end = (arrays.read(_of(joined / "out", stage) / file) for stage, file in
                  (("assembly", "start.safetensors"), ("fusion", "weights.safetensors")))  # fmt: skip
    for k, site in enumerate(WORDS):
        folder = _of(joined / "out", f"expert-{site}")
        expert, seen = frozen.read(folder)
        assert expert.digest == digests[site]
        assert seen == {s: digests[s] for s in list(WORDS)[: k + 1]}
        trained = arrays.read(folder / "weights.safetensors")
        before = arrays.read(_of(joined / "out", "tutor") / f"{site}.safetensors")
        assert trained.keys() == {"head.weight", "head.bias"}
        assert not np.array_equal(trained["head.weight"], before["head.weight"])
        assert all(np.array_equal(expert.arrays[n], trained.get(n, before[n])) for n in before)
        assert all(np.array_equal(start[f"experts.{k}.{n}"], a) for n, a in expert.arrays.items())
    assert all(name.startswith("fusion.") for name in end)
    assert any(not np.array_equal(start[name], end[name]) for name in end)


def test_nothing_of_a_picture_leaves_but_changes_of_heads(joined):
    for site in WORDS:
        answers = sorted((joined / "sites" / site / "outbox" / "run-1").glob("train.fusion.*"))
        assert len(answers) == 2
        (told,) = (s.settings for s in _planned(_experiment()).stages if s.name == experts.UTILITY)
        fused = FusedExperts(**told["federated_part"]["config"]).build()
        shapes = {f"arrays/{n}": a.shape for n, a in arrays.trainable(fused.module).items()}
        for answer in answers:
            assert {n: a.shape for n, a in arrays.read(answer).items()} == shapes


def test_a_patient_pays_for_one_expert_and_the_heads_in_one_budget(joined):
    told = _parts(_experiment(), joined / "again")
    plans = [plan_from_json(p) for p in told.stages[0].settings["plans"]]
    assert [p.purpose for p in plans] == [experts.TRAIN, experts.FUSE]
    cost = epsilon(plans, told.delta)
    for site in WORDS:
        assert Site(joined / "sites" / site).ledger.spent()[0] == pytest.approx(cost)


def test_every_training_is_audited_where_it_took_place(joined):
    audited = json.loads((_of(joined / "out", "audit") / "audit.json").read_text())["audited"]
    found = sorted((a["training"], a["site"]) for a in audited)
    assert found == sorted((purpose, site) for purpose in (experts.TRAIN, experts.FUSE) for site in WORDS)


def test_scores_say_how_well_the_heads_do_and_who_was_heard(joined):
    scores = json.loads((_of(joined / "out", "experts") / "scores.json").read_text())
    assert set(scores["arms"]) == {"release", "phantom", "federated", "local", "trivial"}
    assert all("accuracy" in arm for arm in scores["arms"].values())
    assert set(scores["heard"]) == set(WORDS)
    for weights in scores["heard"].values():
        assert sum(cell["value"] for cell in weights.values()) == pytest.approx(1, abs=0.01)


def test_a_site_that_joins_later_finds_the_others_as_they_were(joined, tmp_path):
    older = {site: str(joined / "out") for site in ("site-a", "site-b")}
    told = ", ".join(f"{site}: '{folder}'" for site, folder in older.items())
    campaign = _parts(_experiment(f"experts.older={{{told}}}"), tmp_path / "later", run="run-2")
    before = {site: _digests(_of(joined / "out", f"expert-{site}")) for site in older}
    sites = [joined / "sites" / site for site in WORDS]
    spent = {site.name: Site(site).ledger.spent()[0] for site in sites}
    run_in_process(server_app, client_app, campaign.to_json(), sites)
    assert {site: _digests(_of(joined / "out", f"expert-{site}")) for site in older} == before
    for site in older:
        then, now = (frozen.read(_of(out, f"expert-{site}"))[0] for out in (joined / "out", tmp_path / "later"))
        assert now.digest == then.digest
    more = {site.name: Site(site).ledger.spent()[0] - spent[site.name] for site in sites}
    assert more["site-a"] == more["site-b"] < more["site-c"]


def test_a_simulated_hospital_that_comes_again_tests_nobody_whom_its_expert_has_seen(joined, tmp_path):
    (tmp_path / "then").mkdir()
    (tmp_path / "then" / "sites").symlink_to(joined / "sites")
    experiment = _experiment(f"experts.older={{site-a: '{tmp_path / 'then'}'}}")
    for folder in make(experiment, "phantom", tmp_path / "now"):
        same = folder.name == "site-a"
        for key in KEYS:
            then, now = (root / "secrets" / key for root in (joined / "sites" / folder.name, folder))
            assert (then.read_bytes() == now.read_bytes()) is same


def test_an_expert_that_was_changed_is_refused_by_name(joined, tmp_path):
    folder = _of(joined / "out", "expert-site-b")
    for file in (frozen.EXPERT, frozen.RECORD):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    assert frozen.read(tmp_path)[0].label_map.site == "site-b"
    weights = arrays.read(tmp_path / frozen.EXPERT)
    weights["head.bias"] = weights["head.bias"] + np.float32(1e-6)
    arrays.write(tmp_path / frozen.EXPERT, weights)
    with pytest.raises(ValueError, match="changed after the expert of site-b was frozen"):
        frozen.read(tmp_path)


def test_experts_of_other_words_do_not_fit_into_a_fusion(joined):
    found = [frozen.read(_of(joined / "out", f"expert-{site}"))[0] for site in ("site-b", "site-a")]
    with pytest.raises(ValueError, match="another order"):
        put_in(FusedExperts(width=4, stages=2, hidden=(4,)).build(), found)


def test_a_campaign_without_experts_has_none_of_their_stages():
    campaign = _planned(compose(["experiment=smoke"], groups=groups())[0])
    names = {stage.name for stage in campaign.stages}
    assert not names & {experts.TUTOR, experts.ASSEMBLY, experts.FUSION, experts.UTILITY}
    assert set(campaign.stages[0].settings) == {"plans"}


def test_all_trainings_together_cost_the_budget_and_hardly_less():
    campaign = _planned(_experiment())
    plans = [plan_from_json(p) for p in campaign.stages[0].settings["plans"]]
    assert {experts.TRAIN, experts.FUSE} < {p.purpose for p in plans}
    assert 7.9 < epsilon(plans, campaign.delta) <= 8


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"nowhere": ["A2C"]}, "nowhere"),
        ({"site-a": ["A5C"]}, "A5C"),
        ({"site-a": ["A2C", "A2C"]}, "site-a"),
    ],
)
def test_words_of_nobody_or_of_no_class_are_refused(words, named):
    with pytest.raises(UsageError, match=named):
        _experiment(words=words)


def test_shares_that_leave_the_generator_nothing_are_refused():
    with pytest.raises(UsageError, match="not below 1"):
        _experiment("experts.train_share=0.5", "experts.fuse_share=0.5")


def test_the_report_says_by_whose_expert_it_was_decided():
    weights = [("site-a", 0.2), ("site-b", 0.71), ("site-c", 0.09)]
    told = [
        Utility(task="expert_fusion", arm="real_federated", metric=heard.metric(expert, "site-c"), n_patients=20,
                n_seeds=1, estimate=weight, ci=(0.0, 1.0), test="")
        for expert, weight in weights
    ]  # fmt: skip
    assert heard.lines(told) == (
        "patients of site-c: decided 0.71 by the expert of site-b, 0.20 by that of site-a, 0.09 by that of site-c",
    )
    assert not heard.is_weight("accuracy")


@pytest.mark.slow
def test_the_experiment_ends_in_a_certificate_that_names_the_experts(tmp_path, capsys):
    from pericard.cli import run

    quick = (
        "generator.prior=false", "generator.width=32", "generator.depth=1", "generator.heads=2",
        "generator.autoencoder_width=8", "generator.sample_steps=2", "views.width=4", "segmentation.width=4",
        "segmentation.steps=4", "recognition.width=4", "recognition.steps=4", "train_views.exchanges=1",
        "train_generator.exchanges=1", "release.subjects=4", "release.candidates=12", "assess.exchanges=1", "threads=1",
        "release.least_view_probability=0.0",
    )  # fmt: skip
    out = tmp_path / "out"
    run(["simulate", "experiment=experts", *SMALL[2:], *quick, "cohort.subjects=100", "--out", str(out)])
    assert "by the expert of" in capsys.readouterr().out
    assert "by the expert of" in (out / "report.html").read_text()
    payload = Envelope.parse((out / "certificate.json").read_bytes()).payload
    predicate = json.loads(payload)["predicate"]
    assert {experts.TRAIN, experts.FUSE} < set(predicate["dp"]["charged_steps"])
    assert {f["metric"] for f in predicate["findings"]} > {"utility.experts", "utility.experts_gain"}
    assert run(["verify", str(out)]) == Exit.PASS
