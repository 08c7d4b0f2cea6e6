import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.evidence import Finding, Verdict, exact
from evaluation.policy import Lane, Policy
from evaluation.predicate import Fairness, Group, Number, PolicyRecord
from evaluation.statement import Contradiction, ForeignPolicy, Predicate, Statement, read_time, write_time
from privacy.estimate import paired
from synthesis.canonical import dumps, loads
from tests.certified import EVIDENCE, NOW, empirical, formal, statement


def changed(**changes: Any) -> Predicate:
    return dataclasses.replace(statement().predicate, **changes)


def test_whole_and_good_evidence_passes() -> None:
    predicate = statement().predicate
    assert predicate.verdict is Verdict.PASS
    assert [(r.rule, r.verdict.value) for r in predicate.policy.evaluated_rules if r.required] == [
        ("dp.eps", "PASS"),
        ("dp.delta", "PASS"),
        ("dp.covered", "PASS"),
        ("audit.dp", "PASS"),
        ("disclosure", "PASS"),
        ("utility.segmentation", "PASS"),
        ("utility.view", "PASS"),
    ]


def test_canaries_that_refute_the_claim_fail_the_certificate() -> None:
    dp = statement().predicate.dp
    refuted = dataclasses.replace(dp.audited[0], eps_lb=dp.audited[0].eps_claimed + 0.1)
    predicate = statement(dp=dataclasses.replace(dp, audited=(*dp.audited, refuted))).predicate
    assert predicate.verdict is Verdict.FAIL
    assert [r.reason for r in predicate.policy.evaluated_rules if r.rule == "audit.dp"] == [
        "DP_VIOLATION: 0.1 is not <= 0"
    ]


def test_a_training_without_canaries_is_not_vouched_for() -> None:
    dp = dataclasses.replace(statement().predicate.dp, audited=())
    assert statement(dp=dp).predicate.verdict is Verdict.INCONCLUSIVE


def test_canaries_of_which_nothing_was_heard_leave_it_open_unless_others_refute_the_claim() -> None:
    dp = statement().predicate.dp
    thrown = dataclasses.replace(dp, canaries={"train": ("site-a", "site-b")})
    open_ = statement(dp=thrown).predicate
    assert open_.verdict is Verdict.INCONCLUSIVE
    assert next(f.how for f in open_.findings if f.metric == "dp.audit_excess").endswith("train at site-b")
    refuted = dataclasses.replace(dp.audited[0], eps_lb=dp.audited[0].eps_claimed + 0.1)
    assert statement(dp=dataclasses.replace(thrown, audited=(refuted,))).predicate.verdict is Verdict.FAIL


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=3, max_size=3), st.sets(st.sampled_from(["site-a", "site-b", "site-c"])))
def test_no_canaries_can_be_left_out_for_a_better_verdict(refutes: list[bool], kept: set[str]) -> None:
    one = statement().predicate.dp.audited[0]
    heard = tuple(
        dataclasses.replace(one, site=site, eps_lb=one.eps_claimed + 0.1 if high else 0.0)
        for site, high in zip(("site-a", "site-b", "site-c"), refutes, strict=True)
    )
    whole = formal(audited=heard, canaries={"train": ("site-a", "site-b", "site-c")})
    part = dataclasses.replace(whole, audited=tuple(a for a in heard if a.site in kept))
    verdicts = [statement(dp=dp).predicate.verdict for dp in (whole, part)]
    assert verdicts[1] in {verdicts[0], Verdict.INCONCLUSIVE}


def test_canaries_that_could_not_have_noticed_decide_nothing() -> None:
    dp = statement().predicate.dp
    weak = dataclasses.replace(dp.audited[0], halved_noise_caught=0.1)
    predicate = statement(dp=dataclasses.replace(dp, audited=(weak,))).predicate
    assert predicate.verdict is Verdict.PASS
    assert [r.verdict for r in predicate.policy.evaluated_rules if r.rule == "audit.dp"] == [Verdict.INCONCLUSIVE]


def test_a_statement_survives_the_wire() -> None:
    stated = statement()
    assert Statement.from_json(loads(dumps(stated.to_json()))) == stated


def test_estimates_of_the_house_are_findings() -> None:
    scores = np.random.default_rng(0).normal(0.8, 0.01, 60)
    difference = paired(scores, scores, rng=np.random.default_rng(0))
    stated = statement([*EVIDENCE[:1], *EVIDENCE[2:], Finding(metric="utility.segmentation", estimate=difference)])
    assert stated.predicate.verdict is Verdict.PASS
    assert Statement.from_json(loads(dumps(stated.to_json()))) == stated


REQUIRED = {rule.metric for rule in Policy.load("default").rules if Lane.FORMAL in rule.required}


@settings(deadline=None)
@given(st.sets(st.sampled_from(range(len(EVIDENCE)))))
def test_a_statement_cannot_pass_while_a_required_finding_is_missing(kept: set[int]) -> None:
    findings = [EVIDENCE[i] for i in sorted(kept)]
    measured = {f.metric for f in findings} | {"dp.eps", "dp.delta_n", "dp.covered", "dp.audit_excess"}
    assert (statement(findings).predicate.verdict is Verdict.PASS) == (measured >= REQUIRED)


@settings(deadline=None)
@given(st.sets(st.sampled_from(range(len(EVIDENCE)))))
def test_nobody_can_write_a_better_verdict_by_hand(kept: set[int]) -> None:
    honest = statement([EVIDENCE[i] for i in sorted(kept)]).predicate
    for verdict in set(Verdict) - {honest.verdict}:
        with pytest.raises(Contradiction, match="the policy applied to the findings says"):
            dataclasses.replace(honest, verdict=verdict)


def test_findings_dropped_after_the_decision_are_noticed() -> None:
    predicate = statement().predicate
    for i in range(len(predicate.findings)):
        with pytest.raises(Contradiction):
            dataclasses.replace(predicate, findings=predicate.findings[:i] + predicate.findings[i + 1 :])


def test_the_formal_findings_come_from_the_dp_section_alone() -> None:
    with pytest.raises(ValueError, match=r"'dp.eps' has two findings"):
        statement([exact("dp.eps", 0.1), *EVIDENCE])
    with pytest.raises(Contradiction, match="not those of the dp section"):
        changed(dp=formal(eps=1.0, per_view={"server": 1.0, "public": 1.0, "release": 1.0}))


def test_delta_is_held_against_the_largest_site() -> None:
    (delta,) = (f for f in statement().predicate.findings if f.metric == "dp.delta_n")
    assert delta.estimate is not None
    assert delta.estimate.value == pytest.approx(1e-5 * 100)
    assert statement(sites=()).predicate.verdict is Verdict.INCONCLUSIVE


def test_a_policy_loosened_after_signing_is_noticed() -> None:
    record = statement().predicate.policy
    loose = record.text.replace("margin: 0.02", "margin: 0.20")
    with pytest.raises(ForeignPolicy):
        changed(policy=dataclasses.replace(record, text=loose))
    tight = record.text.replace("value: 8", "value: 1")
    with pytest.raises(Contradiction, match="says FAIL, not PASS"):
        changed(
            policy=PolicyRecord(digest=Policy.parse(tight).digest, text=tight, evaluated_rules=record.evaluated_rules)
        )


def test_the_empirical_lane_prints_no_epsilon_of_the_release() -> None:
    predicate = statement(lane=Lane.EMPIRICAL).predicate
    assert (predicate.dp.eps, predicate.dp.per_view["release"], predicate.dp.release_covered) == (None, None, False)
    assert predicate.verdict is Verdict.PASS  # of the generator's ε; coverage is required in FORMAL only


def test_without_an_epsilon_of_the_release_the_generators_is_judged() -> None:
    for server, public, judged in ((7.0, 2.0, 7.0), (None, 2.0, 2.0), (9.0, None, 9.0), (None, None, None)):
        dp = formal(release_covered=False, eps=None, per_view={"server": server, "public": public, "release": None})
        (eps,) = (f.estimate for f in dp.findings(largest_site=100) if f.metric == "dp.eps")
        assert (eps.value if eps else None) == judged


def test_without_any_dp_no_certificate_passes() -> None:
    none = formal(
        release_covered=False,
        eps=None,
        delta=None,
        mechanisms=(),
        per_view=dict.fromkeys(("server", "public", "release")),
    )
    for lane in (Lane.EMPIRICAL, Lane.NONE):
        assert statement(lane=lane, dp=none).predicate.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("lane", "dp"), [(Lane.FORMAL, empirical), (Lane.EMPIRICAL, formal), (Lane.NONE, formal)])
def test_lane_and_coverage_agree(lane: Lane, dp: Callable[[], Any]) -> None:
    with pytest.raises(Contradiction, match="release_covered"):
        statement(lane=lane, dp=dp())


@pytest.mark.parametrize(
    "changes",
    [
        {"eps": None},
        {"release_covered": False},
        {"per_view": {"server": 6.5, "public": 6.5, "release": None}},
        {"per_view": {"server": 6.5}},
        {"uncovered_steps": ("tau",)},
        {"delta": None},
    ],
)
def test_a_dp_section_cannot_contradict_itself(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ε|per_view|uncovered"):
        formal(**changes)


@pytest.mark.parametrize("limits", [(), ("",), ("  ", "x")])
def test_a_certificate_states_its_limits(limits: tuple[str, ...]) -> None:
    with pytest.raises(Contradiction, match="limits"):
        statement(limits=limits)


@pytest.mark.parametrize("days", [-1, 0, 549])
def test_a_certificate_lives_at_most_eighteen_months(days: int) -> None:
    with pytest.raises(Contradiction, match="valid for"):
        statement(valid_days=days)


def test_numbers_that_are_none_stay_out_of_the_statement() -> None:
    wild = Finding(metric="utility.view", estimate=Number(value=0.0, low=float("-inf"), high=0.1, n=9))
    predicate = statement([*EVIDENCE[:3], wild]).predicate
    assert predicate.findings[-1].estimate is None
    assert predicate.verdict is Verdict.INCONCLUSIVE


def _edit(document: dict[str, Any], path: str, value: object) -> None:
    *way, last = path.split(".")
    for step in way:
        document = document[int(step)] if step.isdigit() else document[step]  # type: ignore[index]
    if value is ...:
        del document[last]
    else:
        document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1", "_type must be"),
        ("predicateType", "x", "predicateType must be"),
        ("more", 1, "exactly the fields"),
        ("subject", {}, "subject must be a list"),
        ("predicate.limits", ..., "field 'limits' is missing"),
        ("predicate.more", 1, "unknown field 'more'"),
        ("predicate.version", "1", r"predicate.version must be int"),
        ("predicate.version", True, r"predicate.version must be int"),
        ("predicate.version", 1.0, r"predicate.version must be int"),
        ("predicate.dp.eps", "6.5", r"predicate.dp.eps must be a number"),
        ("predicate.dp.eps", True, r"predicate.dp.eps must be a number"),
        ("predicate.dp.eps", 10**400, r"predicate.dp.eps must be a finite number"),
        ("predicate.dp.release_covered", 1, "must be bool"),
        ("predicate.verdict", "pass", "must be one of PASS, FAIL, INCONCLUSIVE"),
        ("predicate.verdict", [], "must be one of"),
        ("predicate.audits.0.ci", [0.1], "must be a list of 2"),
        ("predicate.dp.per_view", [], "must be an object"),
        ("predicate.dp", None, "must be an object"),
        ("predicate.issued", "2031-5-4T03:02:01Z", "is not a time like"),
        ("predicate.issued", "yesterday", "does not match"),
    ],
)
def test_a_malformed_statement_is_refused_by_the_name_of_the_field(path: str, value: object, says: str) -> None:
    document = statement().to_json()
    _edit(document, path, value)
    with pytest.raises(ValueError, match=says):
        Statement.from_json(document)


@settings(deadline=None)
@given(st.datetimes(min_value=NOW.replace(tzinfo=None, year=1900), max_value=NOW.replace(tzinfo=None, year=9000)))
def test_times_survive_the_wire(moment: Any) -> None:
    moment = moment.replace(microsecond=0, tzinfo=NOW.tzinfo)
    assert read_time(write_time(moment)) == moment
    assert write_time(moment + timedelta(microseconds=1)) == write_time(moment)


# --- Groups of patients ---


def group(name: str, estimate: float, *, n: int = 40, reach: float = 0.04) -> Group:
    return Group(group=name, n_patients=n, estimate=estimate, ci=(estimate - reach, estimate + reach))


def fairness(*groups: Group) -> Fairness | None:
    return Fairness.among(groups, task="view_recognition", arm="release", metric="accuracy", by="sex")


def test_the_worst_group_and_the_gap_are_those_of_the_groups() -> None:
    found = fairness(group("male", 0.9), group("female", 0.8))
    assert found is not None
    assert (found.worst, found.at_worst.estimate) == ("female", 0.8)
    assert found.gap == pytest.approx(0.1)
    assert found.gap_ci == pytest.approx((0.1 - 0.04 * 2**0.5, 0.1 + 0.04 * 2**0.5))


def test_the_interval_of_a_gap_widens_with_the_pairs_that_were_looked_at() -> None:
    two = fairness(group("a", 0.9), group("b", 0.8))
    three = fairness(group("a", 0.9), group("b", 0.8), group("c", 0.85))
    assert two is not None
    assert three is not None
    assert three.gap_ci[0] < two.gap_ci[0] < two.gap_ci[1] < three.gap_ci[1]


def test_groups_of_few_patients_are_not_judged() -> None:
    assert fairness(group("male", 0.9), group("female", 0.1, n=19)) is None
    found = fairness(group("male", 0.9), group("female", 0.8), group("other", 0.1, n=19))
    assert found is not None
    assert found.worst == "female"


@pytest.mark.parametrize("changes", [{"worst": "male"}, {"gap": 0.05}, {"groups": ()}], ids=str)
def test_nobody_can_write_a_kinder_gap_by_hand(changes: dict[str, Any]) -> None:
    found = fairness(group("male", 0.9), group("female", 0.8))
    assert found is not None
    with pytest.raises(ValueError, match="groups of sex"):
        dataclasses.replace(found, **changes)


def test_groups_survive_the_wire_and_without_any_the_document_is_as_it_was_before_there_were_groups() -> None:
    found = fairness(group("male", 0.9), group("female", 0.8))
    assert found is not None
    whole = statement(fairness=(found,))
    assert Statement.from_json(loads(dumps(whole.to_json()))) == whole
    assert whole.to_json()["predicate"]["fairness"][0]["worst"] == "female"
    plain = statement().to_json()
    assert "fairness" not in plain["predicate"]
    assert Statement.from_json(plain).predicate.fairness == ()
