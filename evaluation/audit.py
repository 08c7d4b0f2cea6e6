"""The statement of an audit: the same predicate as a campaign's, about a release that somebody else may have made.

It says on what basis it stands, covers nothing by ε, and holds numbers only: no name, path or picture of a patient. Its
counts are exact, so whoever publishes it publishes them.
"""

from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime

from cohorts.frames import Frames
from cohorts.study import UNLABELLED
from evaluation.certificate import subjects
from evaluation.evidence import Finding
from evaluation.policy import Lane, Policy
from evaluation.predicate import Audit, Audited, Dp, Fidelity, Filter, Release, Signer
from evaluation.provenance import collect
from evaluation.statement import Statement, state
from evaluation.tiers import Given
from evaluation.trust import SigningKey, Trust, TrustedKey
from synthesis.manifest import Manifest

AUDITOR = "auditor"
LIMITS = (
    "An audit measures; it proves no privacy. Attacks that were not tried are not excluded.",
    "That members are whom the release was made from, that controls are not, and that both are of one kind, is the "
    "auditor’s word.",
    "Counts are exact and were made from real studies: this certificate is no differentially private output (formal: "
    "false).",
)


def audit_statement(
    *,
    manifest: Manifest,
    documents: dict[str, bytes],
    given: Given,
    policy: Policy,
    findings: Iterable[Finding],
    audits: Iterable[Audit],
    fidelity: Iterable[Fidelity],
    canaries: tuple[Audited, ...],
    pictures: Frames,
    samples: int,
    views: tuple[str, ...],
    limits: Iterable[str],
    key: SigningKey,
    seed: int,
    replay: Iterable[str],
    issued: datetime,
) -> Statement:
    """Let the policy decide and state the outcome.

    Args:
        manifest: every file of the release.
        documents: files beside the certificate that are signed with it.
        given: what there was to look at.
        policy: by which it is decided.
        findings: what was measured.
        audits: what was tried.
        fidelity: how the release resembles the controls, if that was measured.
        canaries: of the training, from the release's own verified certificate.
        pictures: of the release.
        samples: files of the release that hold pictures or clips.
        views: that the release says it shows.
        limits: what a reader must know of this audit, beyond what holds of all.
        key: of whoever audits.
        seed: of everything drawn.
        replay: the command, without paths.
        issued: when.
    """
    return state(
        subject=subjects(manifest, documents),
        policy=policy,
        findings=findings,
        release=Release(
            lane=Lane.NONE,
            n_samples=samples,
            views=views,
            labels=_labels(pictures),
            license="as its maker says",
            intended_use="As its maker says.",
            forbidden_use="Any attempt to find a patient.",
        ),
        dp=Dp(
            release_covered=False,
            eps=None,
            delta=None,
            per_view={"server": None, "public": None, "release": None},
            accountant="none: an audit charges nobody and states no ε",
            mechanisms=(),
            charged_steps=(),
            uncovered_steps=("everything that made the release", "this audit, which read real studies"),
            assumptions=("pictures of one identifier, or of one folder, are of one person, and of nobody else",),
            noise_rng="none",
            audited=canaries,
        ),
        sites=(),
        filter=Filter(mode="not known to this audit"),
        audits=tuple(audits),
        utility=(),
        fidelity=tuple(fidelity),
        repro=collect(
            seeds={"audit": seed},
            config_digest=policy.digest,
            model_digest=manifest.root,
            determinism_level="the same folders, policy and seed give the same numbers on equal threads",
            replay=list(replay),
        ),
        limits=(*LIMITS, *limits),
        signed_by=(Signer(key_id=key.key_id, name=AUDITOR, role=AUDITOR),),
        issued=issued,
        basis=given.basis,
    )


def trust_in(key: SigningKey) -> Trust:
    """Return the trust file that an auditor hands on: one key, which must have signed."""
    known = TrustedKey(name=AUDITOR, role=AUDITOR, public_key=b64encode(key.public).decode())
    return Trust(keys={known.key_id: known}, thresholds={AUDITOR: 1})


def _labels(pictures: Frames) -> tuple[str, ...]:
    known = {
        "view": bool((pictures.view >= 0).any()),
        "phase": bool((pictures.phase >= 0).any()),
        "masks": bool((pictures.masks != UNLABELLED).any()),
        "lvef_percent": bool((pictures.lvef_percent == pictures.lvef_percent).any()),
    }
    return tuple(name for name, there in known.items() if there)
