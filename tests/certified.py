"""A small certified folder, and the pieces to make wrong ones from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation import certificate
from evaluation.certificate import CERTIFICATE, REPORT, TRUST
from evaluation.envelope import Envelope
from evaluation.evidence import Finding
from evaluation.policy import Lane, Policy
from evaluation.predicate import Audit, Audited, Dp, Filter, Mechanism, Number, Release, Repro, Signer, Site, Utility
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
