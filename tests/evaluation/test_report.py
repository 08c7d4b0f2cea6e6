import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from cohorts.phantom import simulate
from evaluation import attempts
from evaluation import words as spoken
from evaluation.evidence import Finding, Verdict
from evaluation.policy import Lane
from evaluation.predicate import Audit, Fairness, Filter, Group, Number, Obeyed, Utility
from evaluation.report import PHANTOM, REAL, SYNTHETIC, Pictures, draw, findings_table
from evaluation.rulings import rule_lines
from evaluation.schema import decode, encode
from evaluation.statement import Predicate
from tests.certified import EVIDENCE, formal, statement

RATES = tuple(
    Finding(metric=f"disclosure.{kind}", estimate=Number(value=value, low=value / 2, high=value * 2, n=120))
    for kind, value in (
        ("members", 0.05),
        ("controls", 0.06),
        ("copies", 0.2),
        ("power_1_percent", 0.07),
        ("power_5_percent", 0.93),
    )
)
ARMS = tuple(
    Utility(
        task="ventricle_segmentation",
        arm=arm,
        metric="dice",
        n_patients=60,
        n_seeds=1,
        estimate=score,
        ci=(score - 0.02, score + 0.02),
    )
    for arm, score in (("real_federated", 0.84), ("release", 0.82), ("phantom", 0.71))
)


@pytest.fixture(scope="module")
def pictures() -> dict[str, Pictures]:
    frames = simulate.stills(2, seed=1, size=32, style="site-a")
    some = Pictures(pixels=frames.pixels, masks=frames.masks)
    return {PHANTOM: some, SYNTHETIC: Pictures(pixels=frames.pixels[::-1])}


@pytest.fixture
def whole() -> Predicate:
    return statement((*EVIDENCE, *RATES), utility=ARMS).predicate


class Page(HTMLParser):
    """Collects what a page names, where it points and whether its elements are closed in order."""

    VOID = frozenset({"meta", "img", "br", "hr", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.ids, self.addresses = [], [], [], []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
                self.addresses.append(value)
            assert not name.startswith("on"), f"{tag} has the handler {name}"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_report_is_one_page_that_asks_nobody_for_anything(whole: Predicate, pictures: dict[str, Pictures]) -> None:
    text = draw(whole, pictures)
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    outside = [address for address in page.addresses if not re.match(r"data:image/png;base64,|#", address)]
    assert outside == []
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "default-src 'none'" in text


def test_every_id_is_given_once_and_every_pointer_finds_one(whole: Predicate, pictures: dict[str, Pictures]) -> None:
    text = draw(whole, pictures)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    pointers = {a[1:] for a in page.addresses if a.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert pointers
    assert pointers <= set(page.ids)


def test_the_same_evidence_draws_the_same_bytes(whole: Predicate, pictures: dict[str, Pictures]) -> None:
    assert draw(whole, pictures) == draw(whole, pictures)


def test_the_predicate_may_come_as_the_json_that_was_signed(pictures: dict[str, Pictures]) -> None:
    signed = statement((*EVIDENCE, *RATES), utility=ARMS)
    assert draw(signed.to_json()["predicate"], pictures) == draw(signed.predicate, pictures)


def test_it_shows_every_section_and_every_number_that_decides(whole: Predicate, pictures: dict[str, Pictures]) -> None:
    text = Page(draw(whole, pictures)).text
    for heading in (
        "In plain words",
        "The rules and what was found",
        "What it looks like",
        "Is it useful?",
        "What was tried to break it",
        "What it cost in privacy",
        "Limits",
        "Where it comes from",
    ):
        assert heading in text
    for rule in whole.policy.evaluated_rules:
        assert rule.rule in text
    for number in ("ε = 6.5", "δ = 1 × 10⁻⁵", "−0.012 to 0.003", "0.820", "0.800 to 0.840", "20 % of 120"):
        assert number in text
    assert "can become at most 99.85 % certain" in text
    assert "had 5 % of the members been copied, it would have noticed with probability 0.93" in text
    assert whole.limits[0] in text
    assert whole.policy.digest in text


@pytest.mark.parametrize(
    ("estimate", "verdict", "words"),
    [
        (Number(value=-0.004, low=-0.012, high=0.003, n=60), Verdict.PASS, "Every required rule holds"),
        (Number(value=-0.06, low=-0.09, high=-0.03, n=60), Verdict.FAIL, "Violated: utility.segmentation."),
        (Number(value=-0.01, low=-0.05, high=0.03, n=60), Verdict.INCONCLUSIVE, "Open: utility.segmentation."),
        (None, Verdict.INCONCLUSIVE, "not measured"),
    ],
)
def test_the_banner_says_the_verdict_and_what_it_hangs_on(
    estimate: Number | None, verdict: Verdict, words: str
) -> None:
    others = [f for f in EVIDENCE if f.metric != "utility.segmentation"]
    predicate = statement([*others, Finding(metric="utility.segmentation", estimate=estimate)]).predicate
    page = draw(predicate, {})
    assert f'<section class="banner {verdict}">' in page
    assert words in Page(page).text


def test_the_empirical_lane_never_prints_an_epsilon_of_the_files(pictures: dict[str, Pictures]) -> None:
    filtered = Filter(mode="reidentification", tau=0.93, tau_method="conformal", n_calib=60, acceptance_rounded=0.9)
    text = Page(draw(statement(lane=Lane.EMPIRICAL, filter=filtered).predicate, pictures)).text
    assert "no ε for the released files" in text
    assert "The released files have no ε" in text
    assert "About the generator’s training: An observer" in text
    assert "threshold 0.93" in text


def test_without_utility_attacks_and_pictures_it_says_so() -> None:
    text = Page(draw(statement(utility=(), audits=(), findings=()).predicate, {})).text
    assert "No task was scored." in text
    assert "No attack was run." in text
    assert "What it looks like" not in text


def test_a_control_that_failed_takes_the_word_from_the_attack() -> None:
    missed = Audit(
        name="disclosure",
        version="1",
        n_member=9,
        n_control=9,
        split="by date",
        estimate=None,
        ci=None,
        positive_control=False,
        reason="no controls were free",
        negative_control=False,
        blind_baseline=False,
        eps_lb=0.4,
        eps_ceiling=5.8,
    )
    text = Page(draw(statement(audits=(missed,)).predicate, {})).text
    for words in (
        "No controls were free.",
        "missed , so finding nothing says nothing",
        "could have proved 5.8 at most",
        "split is not fair",
    ):
        assert words in text


def test_text_from_a_certificate_cannot_become_markup(whole: Predicate) -> None:
    hostile = dataclasses.replace(
        whole, limits=('<script src="https://example.org/x.js"></script><img src=x onerror=y>',)
    )
    text = draw(hostile, {})
    assert "<script" not in text
    assert "&lt;script src=&#34;https://example.org/x.js&#34;&gt;" in text
    Page(text)


def test_real_studies_are_drawn_only_where_the_report_stays(whole: Predicate, pictures: dict[str, Pictures]) -> None:
    with pytest.raises(ValueError, match="stays_at_site"):
        draw(whole, {REAL: pictures[PHANTOM]})
    inside = Page(draw(whole, {REAL: pictures[PHANTOM]}, stays_at_site=True)).text
    assert "It must not leave the site." in inside
    assert "Real studies of this site" in inside
    assert "Studies of patients are not shown" in Page(draw(whole, pictures)).text


def test_a_picture_of_unknown_origin_is_refused(whole: Predicate, pictures: dict[str, Pictures]) -> None:
    with pytest.raises(ValueError, match="pictures of 'ward 3'; a report shows phantom, real, synthetic"):
        draw(whole, {"ward 3": pictures[PHANTOM]})


def test_the_terminal_table_holds_every_rule(whole: Predicate) -> None:
    console = Console(width=140, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(findings_table(whole))
    shown = captured.get()
    for line in rule_lines(whole):
        assert line.rule.id in shown
    assert "PASS overall" in " ".join(shown.split())
    assert "utility.segmentation_gain (not required)" in shown


def test_required_rules_come_first(whole: Predicate) -> None:
    required = [line.outcome.required for line in rule_lines(whole)]
    assert required == sorted(required, reverse=True)


def test_metrics_that_detail_another_stand_in_the_table_only(pictures: dict[str, Pictures]) -> None:
    detailed = (*ARMS, dataclasses.replace(ARMS[0], metric="dice_atrium"))
    text = draw(statement(utility=detailed).predicate, pictures)
    assert "Ventricle segmentation: Dice" in text
    assert "Ventricle segmentation: Dice atrium" not in text
    assert "Dice atrium" in Page(text).text


def test_two_attacks_may_be_drawn_on_one_page() -> None:
    one = Audit(
        name="disclosure", version="1", n_member=9, n_control=9, split="keyed hash", estimate=0.0, ci=(0.0, 1.0)
    )
    other = dataclasses.replace(one, name="different1")
    rates = [*RATES, *(dataclasses.replace(r, metric=r.metric.replace("disclosure", "different1")) for r in RATES)]
    page = Page(draw(statement([*EVIDENCE, *rates], audits=(one, other)).predicate, {}))
    assert len(page.ids) == len(set(page.ids))


def test_someone_counted_twice_is_told() -> None:
    twice = formal(eps_if_2_sites=9.1, eps_if_3_sites=11.3, eps_if_duplicate_id=15.2)
    text = Page(draw(statement(dp=twice).predicate, {})).text
    assert "A patient of two sites: ε = 9.1. Of three: ε = 11.3. Under two names at one site: ε = 15.2." in text


def test_numbers_are_written_as_people_read_them() -> None:
    shown = {
        0.0: "0",
        6.5: "6.5",
        -0.0123: "−0.0123",
        1e-5: "1 × 10⁻⁵",
        -2e-7: "−2 × 10⁻⁷",
        12345.6: "12,346",
        None: "–",
    }
    assert {value: spoken.number(value) for value in shown} == shown


def test_frames_and_masks_must_agree() -> None:
    with pytest.raises(ValueError, match="masks have shape"):
        draw(
            statement().predicate,
            {SYNTHETIC: Pictures(pixels=np.zeros((2, 8, 8), np.uint8), masks=np.zeros((1, 8, 8), np.uint8))},
        )


def test_it_says_whom_the_release_serves_worst_where_groups_were_told_apart(whole: Predicate) -> None:
    assert "Whom it serves worst" not in draw(whole, {})
    groups = [
        Group(group=g, n_patients=50, estimate=e, ci=(e - 0.02, e + 0.02)) for g, e in (("female", 0.71), ("male", 0.8))
    ]
    found = Fairness.among(groups, task="segmentation", arm="release", metric="dice", by="sex")
    assert found is not None
    text = Page(draw(statement(fairness=(found,)).predicate, {})).text
    assert "Whom it serves worst" in text
    assert "segmentation, Dice, by sex female 0.710 · male 0.800" in text
    assert "the release female 0.710 0.690 to 0.730 50 0.090" in text


def test_what_moves_is_shown_as_a_strip_and_patients_only_where_the_report_stays(whole: Predicate) -> None:
    clips = np.zeros((2, 8, 16, 16), np.uint8)
    page = draw(whole, {}, films={PHANTOM: clips, SYNTHETIC: clips})
    assert page.count('over one beat"') == 2
    assert "How it moves" in page
    with pytest.raises(ValueError, match="stays_at_site"):
        draw(whole, {}, films={REAL: clips})


def test_it_says_whether_the_released_masks_have_what_was_asked_for(whole):
    said = Obeyed(label="lvef_percent", measured="biplane disks", n=300, low=15.0, high=75.0, correlation=0.9912,
                  bias=-0.34, error=1.25)  # fmt: skip
    told = dataclasses.replace(whole, release=dataclasses.replace(whole.release, obeyed=(said,)))
    line = "lvef_percent from 15 to 75 in 300 synthetic hearts"
    page = draw(told, {})
    assert line in page
    assert "correlation 0.991, mean error 1.2, bias -0.3" in page
    assert line not in draw(whole, {})
    assert decode(Predicate, encode(told), "predicate") == told
    assert "obeyed" not in encode(whole)["release"]  # as certificates before it were written


def test_an_attack_on_membership_answers_none_of_the_three_questions_of_regulators(whole: Predicate) -> None:
    membership = [dataclasses.replace(audit, kind="disclosure") for audit in whole.audits]
    assert membership
    assert {state for _, state in attempts.questions(membership)} == {"not tried"}
