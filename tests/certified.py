"""A small certified folder, and the pieces to make wrong ones from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation import certificate
from evaluation.certificate import CERTIFICATE, REPORT, TRUST
from evaluation.envelope import Envelope
from evaluation.evidence import Finding, Verdict
from evaluation.policy import Lane, Policy
from evaluation.predicate import (
    At,
    Audit,
    Audited,
    Basis,
    Decoys,
    Dp,
    Fairness,
    Fidelity,
    Filter,
    Gate,
    Group,
    Left,
    Mechanism,
    Number,
    Obeyed,
    Pairs,
    Planted,
    Power,
    Rate,
    Refused,
    Release,
    Repro,
    Signer,
    Site,
    Utility,
)  # fmt: skip
from evaluation.statement import Statement, Subject, state
from evaluation.trust import COORDINATOR, SITE, SigningKey, Trust
from synthesis.manifest import MANIFEST, Manifest

NOW = datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)
SITES = ("site-a", "site-b", "site-c")
SUBJECT = (Subject(name="release", digest={"merkle_sha256": "ab" * 32}),)

EVIDENCE = (
    Finding(
        metric="disclosure.eps_lb",
        estimate=Number(value=0.0, low=0.0, high=0.9, n=240),
        controls={"positive_control": True},
    ),
    Finding(metric="utility.segmentation", estimate=Number(value=-0.004, low=-0.012, high=0.003, n=60)),
    Finding(metric="utility.segmentation_gain", estimate=Number(value=0.11, low=0.07, high=0.15, n=60)),
    Finding(metric="utility.view", estimate=Number(value=0.0, low=-0.02, high=0.02, n=60)),
)


def formal(**changes: Any) -> Dp:
    fields: dict[str, Any] = {
        "release_covered": True,
        "eps": 6.5,
        "delta": 1e-5,
        "per_view": {"server": 6.5, "public": 6.5, "release": 6.5},
        "accountant": "PLD, dp-accounting 0.6.0",
        "mechanisms": (
            Mechanism(step="train", sampler="Poisson over patients", q=0.1, sigma=3.5, C=1.0, T=900, k_clips=4),
            Mechanism(step="disclosure", sampler="none", eps=0.5, delta=0.0),
        ),
        "charged_steps": ("train", "disclosure"),
        "uncovered_steps": (),
        "assumptions": ("a patient attends one site",),
        "noise_rng": "ChaCha20",
        "audited": (
            Audited(training="train", site="site-a", canaries=30000, guessed=6000, right=3900, eps_claimed=6.0,
                    eps_lb=2.1, eps_lb_pure=0.6, eps_ceiling=9.8, halved_noise_caught=0.95),
        ),
    }  # fmt: skip
    return Dp(**{**fields, **changes})


def empirical() -> Dp:
    return formal(release_covered=False, eps=None, per_view={"server": 6.5, "public": 6.5, "release": None})


def statement(
    findings: Iterable[Finding] = EVIDENCE,
    *,
    subject: tuple[Subject, ...] = SUBJECT,
    policy: Policy | None = None,
    lane: Lane = Lane.FORMAL,
    issued: datetime = NOW,
    **changes: Any,
) -> Statement:
    fields: dict[str, Any] = {
        "release": Release(
            lane=lane,
            n_samples=8,
            views=("A2C", "A4C"),
            labels=("mask", "view", "lvef_percent"),
            license="CC BY 4.0",
            intended_use="teaching segmentation",
            forbidden_use="diagnosis",
        ),
        "dp": formal() if lane is Lane.FORMAL else empirical(),
        "sites": tuple(
            Site(pseudonym=s, key_id="00", n_rounded=100, ledger_head="11", eps_spent_lifetime=6.5) for s in SITES
        ),
        "filter": Filter(mode="self_similarity", acceptance_rounded=0.95),
        "audits": (Audit(name="disclosure", version="1", n_member=120, n_control=120, split="keyed hash",
                         estimate=0.0, ci=(0.0, 0.9), positive_control=True),),
        "utility": (Utility(task="segmentation", arm="TSTR", metric="dice", n_patients=60, n_seeds=1,
                            estimate=0.81, ci=(0.79, 0.83)),),
        "repro": Repro(code_digest="c0", config_digest="c1", model_digest="c2", seeds={"sample": 7}, versions={},
                       hardware={}, determinism_level="bytes", replay_command="pericard simulate"),
        "limits": ("the public prior's people are covered by no ε",),
        "signed_by": (Signer(key_id="00", name="consortium", role=COORDINATOR),
                      *(Signer(key_id="00", name=s, role=SITE) for s in SITES)),
    }  # fmt: skip
    return state(
        findings=findings,
        subject=subject,
        policy=policy or Policy.load("default"),
        issued=issued,
        **{**fields, **changes},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A folder as `pericard simulate` leaves it, and the keys that signed it."""

    folder: Path
    trust: Trust
    coordinator: SigningKey
    sites: dict[str, SigningKey]

    @property
    def envelope(self) -> Envelope:
        return Envelope.parse((self.folder / CERTIFICATE).read_bytes())

    def resign(self, stated: Statement, *, by: Sequence[str] = SITES) -> None:
        """Sign `stated` anew with the true keys, whatever it says."""
        envelope = certificate.issue(stated, self.coordinator)
        for name in by:
            envelope = envelope.with_signature(certificate.sign(envelope.payload, self.sites[name]))
        (self.folder / CERTIFICATE).write_bytes(envelope.canonical)


def certify(
    folder: Path, *, n_files: int = 6, report: bool = True, content: str = "", issued: datetime = NOW
) -> Certified:
    """Write a release of small files into `folder` and certify it by a coordinator and three sites, two required."""
    release = folder / "release"
    (release / "images").mkdir(parents=True)
    for k in range(n_files):
        (release / "images" / f"{k:06d}.png").write_bytes(f"picture {content}{k}".encode())
    (release / "labels.csv").write_text("patient,view\n")
    manifest = Manifest.of(release)
    (release / MANIFEST).write_bytes(manifest.canonical)
    if report:
        (folder / REPORT).write_text("<html></html>")
    documents = {REPORT: (folder / REPORT).read_bytes()} if report else {}
    coordinator, sites = SigningKey.create(), {name: SigningKey.create() for name in SITES}
    trust = Trust.of({"consortium": coordinator.public}, {n: k.public for n, k in sites.items()}, least_sites=2)
    (folder / TRUST).write_bytes(trust.canonical)
    made = Certified(folder=folder, trust=trust, coordinator=coordinator, sites=sites)
    made.resign(statement(subject=certificate.subjects(manifest, documents), issued=issued))
    return made


def full() -> Statement:
    """Return a statement in which every section and every later field says something."""
    audits = (
        Audit(
            name="disclosure", kind="disclosure", version="1", n_member=120, n_control=120, split="keyed hash",
            metric="eps_lb", estimate=0.0, ci=(0.0, 0.9), positive_control=True, negative_control=True,
            blind_baseline=True, eps_lb=0.0, eps_ceiling=3.6, p=0.41, p_holm=1.0, of="the most unusual 5 %",
            rates=(Rate(of="main", successes=6, attempts=120, rate=0.05, low=0.02, high=0.1),
                   Rate(of="control", successes=7, attempts=120, rate=0.058, low=0.03, high=0.11)),
            power=(Power(share=0.01, noticed=0.31, runs=100), Power(share=0.05, noticed=0.97, runs=100)),
            smallest_leak=0.04, n_attempts=2, auc=0.51, auc_ci=(0.44, 0.58),
            tpr=(At(fpr=0.1, tpr=0.12, low=0.07, high=0.19), At(fpr=0.01, tpr=0.01, low=0.0, high=0.05)),
            seed_commitment="ab" * 32, reason="no more members than controls were found",
        ),
        Audit(
            name="domias", kind="membership", version="1", n_member=120, n_control=120, split="keyed hash",
            metric="auc", estimate=0.53, ci=(0.46, 0.6), positive_control=True, negative_control=True,
            blind_baseline=True, p=0.21, p_holm=0.84, auc=0.53, auc_ci=(0.46, 0.6),
            tpr=(At(fpr=0.1, tpr=0.13, low=0.08, high=0.2), At(fpr=0.01, tpr=0.02, low=0.0, high=0.06)),
            power=(Power(share=0.05, noticed=0.4, runs=100),),
        ),
        Audit(
            name="attribute_inference", kind="inference", version="1", n_member=120, n_control=120,
            split="keyed hash", metric="risk", estimate=0.01, ci=(0.0, 0.07), positive_control=True, p=0.3, p_holm=0.9,
            rates=(Rate(of="main", successes=70, attempts=120, rate=0.58, low=0.49, high=0.67),
                   Rate(of="control", successes=69, attempts=120, rate=0.575, low=0.48, high=0.66),
                   Rate(of="naive", successes=62, attempts=120, rate=0.52, low=0.43, high=0.61)),
        ),
        Audit(
            name="singling_out", kind="singling_out", version="1", n_member=120, n_control=120, split="keyed hash",
            estimate=0.0, ci=(0.0, 0.03), positive_control=True, p=1.0, p_holm=1.0, metric="risk",
            rates=(Rate(of="main", successes=1, attempts=300, rate=0.003, low=0.0, high=0.018),),
        ),
        Audit(
            name="linkability", kind="linkability", version="1", n_member=0, n_control=0, split="keyed hash",
            estimate=None, ci=None, reason="not applicable: no released heart is shown in two views",
        ),
        Audit(
            name="copies", kind="copies", version="1", n_member=0, n_control=0, split="none needed", estimate=0.0,
            ci=(0.0, 0.004), metric="share of near-identical pictures", p=1.0, p_holm=1.0,
        ),
    )  # fmt: skip
    screened = Filter(
        mode="vote filter, differentially private", embedding_digest="cd" * 32, tau=0.31, tau_method="stricter of both",
        n_calib=93, acceptance_rounded=0.5, tau_false_rejection=0.35, tau_detection=0.31, false_rejection=0.04, eps=1.0,
        votes=1, gate=Gate(eps=0.5, members=3.1, controls=-1.2, n_member=120, n_control=120), auc=0.93, eer=0.14,
        tpr_at_1e_3=0.41,
        pairs=(Pairs(kind="different studies", n_same=80, n_other=9000, auc=0.93, auc_ci=(0.9, 0.96), eer=0.14,
                     tpr_at_1e_2=0.6, tpr_at_1e_3=0.41, rank_1=0.7),),
        planted=tuple(Planted(family=family, level=level, n=300, caught=caught, lcb95=round(caught / 300 - 0.02, 3))
                      for family, row in (("gaussian noise", (300, 300, 297, 250, 90)),
                                          ("rotation", (300, 299, 290, 150, 20)),
                                          ("blend", (300, 300, 270, 120, 15)))
                      for level, caught in enumerate(row, 1)),
        committed="ef" * 32, regenerated=0.05,
        decoys=tuple(Decoys(site=s, n=100, caught=98, probes=100, refused=6, honest=True) for s in SITES),
        refused=tuple(Refused(by="view", group=view, n=500, refused=n) for view, n in (("A2C", 240), ("A4C", 260))),
    )  # fmt: skip
    groups = tuple(
        Group(group=g, n_patients=30, estimate=e, ci=(e - 0.03, e + 0.03)) for g, e in (("f", 0.8), ("m", 0.83))
    )
    worst = Fairness.among(groups, task="segmentation", arm="TSTR", metric="dice", by="sex")
    assert worst is not None
    utility = (
        Utility(task="segmentation", arm="real_federated", metric="dice", n_patients=60, n_seeds=5, estimate=0.83,
                ci=(0.81, 0.85), trivial=0.31),
        Utility(task="segmentation", arm="TSTR", metric="dice", n_patients=60, n_seeds=5, estimate=0.82,
                ci=(0.8, 0.84), margin=0.02, test="paired over patients", trivial=0.31, difference=-0.01,
                difference_ci=(-0.018, -0.002), p=0.011, p_holm=0.022, verdict=Verdict.PASS, equivalent=Verdict.PASS),
        Utility(task="view_recognition", arm="TSTR", metric="balanced_accuracy", n_patients=60, n_seeds=5, estimate=0.9,
                ci=(0.85, 0.95), margin=0.03, test="paired over patients", trivial=0.5, difference=-0.02,
                difference_ci=(-0.06, 0.02), p=0.2, p_holm=0.2, verdict=Verdict.INCONCLUSIVE,
                equivalent=Verdict.INCONCLUSIVE),
    )  # fmt: skip
    stated = statement(
        dp=formal(canaries={"train": ("site-a",)}),
        audits=audits, filter=screened, utility=(*utility[1:], utility[0]),
        fairness=(replace(worst, gap_change=0.01, gap_change_ci=(-0.02, 0.04)),),
        fidelity=(Fidelity(metric="fid", encoder="echo encoder 1", against="public phantoms", n=2000, estimate=31.0,
                           ci=(29.0, 33.0), beside=2.1, beside_ci=(1.8, 2.4), reads_real=True, reason="rough"),),
        left=tuple(Left(site=s, kind=kind, messages=n, bytes=size, charged=charged)
                   for s in SITES
                   for kind, n, size, charged in (("train", 40, 61_000_000, True), ("screen", 1, 1_200, True),
                                                  ("score", 6, 9_000, False))),
        basis=Basis(tier="T3", given=("the release", "members", "controls, by lot"),
                    allows="that no leak above 4 % of the members is there, by the attacks tried"),
    )  # fmt: skip
    said = Obeyed(label="lvef_percent", measured="biplane disks", n=300, low=15.0, high=75.0, correlation=0.99,
                  bias=-0.3, error=1.2)  # fmt: skip
    return replace(
        stated, predicate=replace(stated.predicate, release=replace(stated.predicate.release, obeyed=(said,)))
    )
