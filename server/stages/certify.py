"""Certify: gather the evidence, let the policy decide, draw the report, sign, and have every site countersign.

Settings:
    policy, lane: by what is decided.
    epsilon, epsilon_at_2_sites, epsilon_at_3_sites: of all plans together, for a patient seen at so many sites.
    epsilon_under_2_names: the same for a patient whom one site takes for two.
    pictures: whether the frames beside the release are public phantoms ("phantom").

Writes, beside the campaign, `report.html`, `samples.png`, of what moves `samples.gif`, `certificate.json` and
`trust.json`; in its folder `statement.json`.
"""

import base64
import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cohorts import clips as moving
from cohorts import frames as table
from cohorts.frames import Frames
from cohorts.study import UNLABELLED
from conf.schema import Origin
from evaluation.certificate import issue, subjects
from evaluation.envelope import Envelope, Signature
from evaluation.evidence import Finding
from evaluation.policy import Lane, Policy
from evaluation.predicate import Audited, Dp, Mechanism, Pretraining, Release, Signer, Site
from evaluation.statement import Statement
from evaluation.statement import state as make_statement
from evaluation.trust import SigningKey, Trust
from learning import arrays, durable
from learning.messages import Sign
from learning.messages import Signature as Countersignature
from privacy.estimate import Estimate
from server import left, screening
from server.campaign import State
from server.evidence import (
    attack_section,
    fairness_section,
    filter_section,
    obeyed_section,
    utility_findings,
    utility_section,
)
from server.failure import CampaignFailed
from server.resemblance import fidelity_section
from server.rounds import Answers, ask
from server.stages.audit import RECORD as AUDITED
from server.stages.film import FILM, PHANTOM_CLIPS
from server.stages.sample import PHANTOMS
from server.stages.screen import RELEASED, RELEASED_CLIPS
from server.stages.train import WEIGHTS
from synthesis.manifest import Manifest

COORDINATOR = "coordinator"
SHOWN = 12  # frames of each kind in the report
FILMED = 4  # and clips
SUMMED = "the coordinator saw sums of the sites' trained changes alone; the stated ε does not count on that"
LIMITS = (
    "ε bounds what the released files tell about one patient, not what is true of many of them.",
    "A site's size, split and noise are what its own machine says; a site that lies about them is not detected.",
    "Attacks that were not tried are not excluded.",
)


def run(state: State) -> None:
    """Issue the certificate; by construction its verdict is what its own policy says of its own findings."""
    out = Path(state.campaign.out)
    key = _own_key(out / "campaign" / "coordinator.pem")
    manifest = Manifest.of(out / "release")
    state.tell(0.1, "evidence against the policy")
    statement = _statement(state, key, manifest)
    state.tell(0.3, "report")
    report = _report(state, statement)
    durable.write(out / "report.html", report)
    durable.write(out / "samples.png", _samples(state))
    if _moves(state):
        durable.write(out / "samples.gif", _moving_samples(state))
    statement = dataclasses.replace(statement, subject=subjects(manifest, {"report.html": report}))
    envelope = issue(statement, key)
    state.tell(0.6, "countersignatures")
    replies: Answers[Countersignature] = ask(
        state.grid,
        state.sites,
        lambda _: Sign(run=state.campaign.run, payload_type="application/vnd.in-toto+json", payload=envelope.payload),
        quorum=state.campaign.quorum,
        seconds=state.campaign.seconds,
    )
    for reply in replies.replies.values():
        envelope = _countersigned(envelope, reply)
    sites = state.read_json("reserve", "sites.json")
    trust = Trust.of(
        {COORDINATOR: key.public},
        {name: bytes.fromhex(site["public_key"]) for name, site in sites.items()},
        least_sites=state.campaign.quorum,
    )
    durable.write(out / "trust.json", trust.canonical)
    durable.write(out / "certificate.json", envelope.canonical)
    state.write_json("statement.json", statement.to_json())


def _statement(state: State, key: SigningKey, manifest: Manifest) -> Statement:
    from evaluation.provenance import collect

    told: Mapping[str, Any] = state.stage.settings
    released = table.read(state.output("screen", RELEASED))
    sites = state.read_json("reserve", "sites.json")
    lane, policy = Lane(told["lane"]), Policy.load(told["policy"])
    weights = arrays.read(state.output("generator", WEIGHTS))
    return make_statement(
        subject=subjects(manifest),
        policy=policy,
        findings=list(_findings(state)),
        release=Release(
            lane=lane,
            n_samples=len(released),
            views=tuple(sorted({told["classes"][v] for v in released.view if v >= 0})),
            labels=_labels(state, released),
            obeyed=tuple(obeyed_section(released)),
            license="CC0-1.0",
            intended_use=f"Development and testing of methods for {told['about']}.",
            forbidden_use="Diagnosis; any attempt to find a patient.",
        ),
        dp=_dp(state, lane),
        sites=tuple(
            Site(
                pseudonym=name,
                key_id=_key_id(site["public_key"]),
                n_rounded=site["public_subjects"],
                ledger_head=site["head"],
                eps_spent_lifetime=site["epsilon"],
            )
            for name, site in sorted(sites.items())
        ),
        filter=filter_section(state, lane),
        audits=(attack_section(state),),
        utility=tuple(utility_section(state, policy)),
        fairness=tuple(fairness_section(state)),
        left=left.section(Path(state.campaign.out) / "campaign"),
        fidelity=tuple(fidelity_section(state)),
        repro=collect(
            seeds={"public": state.campaign.seed},
            config_digest=state.campaign.experiment_digest,
            model_digest=arrays.digest(weights),
            determinism_level="sampling and evaluation repeat on equal threads; noise and who is drawn never do",
            replay=["pericard", "simulate", f"experiment={state.campaign.experiment['name']}", "--out", "DIR"],
        ),
        limits=_limits(state),
        signed_by=(
            Signer(key_id=key.key_id, name=COORDINATOR, role="coordinator"),
            *(Signer(key_id=_key_id(s["public_key"]), name=n, role="site") for n, s in sorted(sites.items())),
        ),
        issued=datetime.now(UTC),
    )


def _labels(state: State, released: Frames) -> tuple[str, ...]:
    """Name what is known of the released frames."""
    known = {
        state.campaign.experiment["classes"]["of"]: bool((released.view >= 0).any()),
        "phase": bool((released.phase >= 0).any()),
        "masks": bool((released.masks != UNLABELLED).any()),
        "lvef_percent": not bool((released.lvef_percent != released.lvef_percent).all()),
    }
    return tuple(name for name, is_known in known.items() if is_known)


def _steps(state: State) -> list[str]:
    """Name every step that this campaign took, as the coverage table knows them."""
    stages = {stage.name: stage.settings for stage in state.campaign.stages}
    formal = stages["certify"]["lane"] == Lane.FORMAL.value
    steps = [
        "cohort", "split", "normalisation.constant", "train.views", "train.generator", "aggregate.public",
        "checkpoint.last", "labels.public", "conditions.public", "sampling",
        "screening.self_similarity", "screening.view", "embedding.public", "scores.test", "reference.local",
        "statistics.declared", "report.phantom", "failures", "audit.layer",
    ]  # fmt: skip
    steps.append("hyperparameters.public" if _settings_are_public(state) else "hyperparameters.private")
    if "shapes" in stages:
        steps += ["shapes.moments", "conditions.moments"]
    if "fusion" in stages:
        steps += ["tutor.public", "train.fusion"]
        steps += sorted(
            {
                {"arrive": "train.expert", "takeover": "expert.older"}[s.do]
                for s in state.campaign.stages
                if s.do in ("arrive", "takeover")
            }
        )
    if _moves(state):
        steps += ["clips", "conditions.clips", "sampling.clips"]
    steps += screening.steps(stages["sample"]["rule"])
    if stages["autoencoder"]["uses"]:
        steps.append("prior.public")
    if "reference" in stages:
        steps.append("reference.federated")
    return [*steps, "attack.disclosure" if formal else "attack.exact"]


def _moves(state: State) -> bool:
    """Say whether the release holds clips."""
    return any(stage.do == "film" for stage in state.campaign.stages)


def _settings_are_public(state: State) -> bool:
    return state.campaign.experiment.get("settings_from") == Origin.PUBLIC.value


def _findings(state: State) -> Iterator[Finding]:
    yield from utility_findings(state)
    record = state.read_json("attack", "attack.json")
    for metric, cell in record["findings"].items():
        yield Finding(
            metric=metric,
            estimate=Estimate(value=cell["value"], low=cell["low"], high=cell["high"], n=cell["n"]),
            controls=record["controls"] if metric == record["decides"] else {},
            how=cell.get("how", ""),
        )


def _dp(state: State, lane: Lane) -> Dp:
    """State ε and what it covers: exactly the steps that the coverage table allows to be claimed."""
    from privacy import coverage
    from privacy.randomness import SecureRandom

    told: Mapping[str, Any] = state.stage.settings
    plans = next(s for s in state.campaign.stages if s.name == "reserve").settings["plans"]
    covered = lane is Lane.FORMAL
    epsilon, canaries = told["epsilon"], state.read_json("audit", AUDITED)
    # The reference arm sends weights without noise to whoever runs the simulation.
    seen = None if any(stage.name == "reference" for stage in state.campaign.stages) else epsilon
    public = _settings_are_public(state)
    if covered and (problems := coverage.formal(_steps(state))):
        raise CampaignFailed("the FORMAL lane cannot be claimed: " + "; ".join(problems))
    return Dp(
        release_covered=covered,
        eps=epsilon if covered else None,
        delta=state.campaign.delta,
        per_view={
            "server": seen if public else None,
            "public": epsilon if public else None,
            "release": epsilon if covered else None,
        },
        accountant="dp-accounting, privacy loss distributions, pessimistic; all plans fixed before the run",
        mechanisms=tuple(_mechanism(plan, state.campaign.delta) for plan in plans),
        charged_steps=tuple(plan["purpose"] for plan in plans),
        uncovered_steps=() if covered else ("exact re-identification filter",),
        assumptions=(
            "add or remove one patient with all studies, at one site",
            "a patient has one identifier at a site",
            "the sites' own machines, policies and signing keys",
            *(("settings were found without patients, as whoever runs the campaign declares",) if public else ()),
            *((SUMMED,) if any(s.settings.get("aggregation", {}).get("secure") for s in state.campaign.stages) else ()),
        ),
        noise_rng=SecureRandom.NAME,
        eps_if_2_sites=told["epsilon_at_2_sites"] if covered else None,
        eps_if_3_sites=told["epsilon_at_3_sites"] if covered else None,
        eps_if_duplicate_id=told["epsilon_under_2_names"] if covered else None,
        audited=tuple(Audited(**record) for record in canaries["audited"]),
        canaries={training: tuple(sites) for training, sites in canaries.get("canaries", {}).items()},
        public_pretraining=(Pretraining(dataset="Pericard phantom (simulated)", license="Apache-2.0"),),
    )


def _mechanism(document: Mapping[str, Any], delta: float) -> Mechanism:
    from privacy.mechanism import DpPlan, epsilon, plan_from_json

    plan = plan_from_json(document)
    if not isinstance(plan, DpPlan):
        return Mechanism(step=plan.purpose, sampler="none, discrete Laplace count", eps=plan.epsilon)
    return Mechanism(
        step=plan.purpose,
        sampler="Poisson over subjects",
        q=plan.sampling_rate,
        sigma=plan.noise_multiplier,
        C=plan.clip_norm,
        T=plan.steps,
        k_clips=plan.draws,
        eps=epsilon([plan], delta),
        delta=delta,
    )


def _report(state: State, statement: Statement) -> bytes:
    from evaluation.report import Pictures, draw

    pictures = {}
    for origin, file in (("phantom", PHANTOMS), ("synthetic", RELEASED)):
        frames = table.read(state.output("screen", file))
        pictures[origin] = Pictures(pixels=frames.pixels[:SHOWN], masks=frames.masks[:SHOWN])
    films = {}
    if _moves(state):
        for origin, file in (("phantom", PHANTOM_CLIPS), ("synthetic", RELEASED_CLIPS)):
            films[origin] = moving.read(state.output("screen", file)).pixels[:FILMED]
    return draw(statement.predicate, pictures, films=films).encode()


def _samples(state: State) -> bytes:
    """Return a picture: each public phantom above the released frame of the very same shape."""
    import io

    import numpy as np
    from PIL import Image

    phantoms, released = (table.read(state.output("screen", f)).pixels[: 2 * SHOWN] for f in (PHANTOMS, RELEASED))
    half = (len(released) + 1) // 2
    rows = [np.hstack(list(f[k : k + half])) for k in (0, half) for f in (phantoms, released) if len(f) >= 2 * half]
    sheet = Image.fromarray(np.vstack(rows or [np.hstack(list(released))]))
    raw = io.BytesIO()
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.BICUBIC).save(raw, "PNG")
    return raw.getvalue()


def _moving_samples(state: State) -> bytes:
    """Return a moving picture: public phantoms above the released clips of the very same hearts."""
    import io

    import numpy as np
    from PIL import Image

    phantoms, released = (moving.read(state.output("screen", f)) for f in (PHANTOM_CLIPS, RELEASED_CLIPS))
    seconds = 60 / float(released.heart_rate_bpm[0])
    rows = [np.concatenate(list(clips.pixels[: 2 * FILMED]), axis=2) for clips in (phantoms, released)]
    first, *others = [Image.fromarray(frame) for frame in np.concatenate(rows, axis=1)]
    raw = io.BytesIO()
    pause = round(1000 * seconds / (1 + len(others)))
    first.save(raw, "GIF", save_all=True, append_images=others, duration=pause, loop=0)
    return raw.getvalue()


def _countersigned(envelope: Envelope, reply: Countersignature) -> Envelope:
    key = _key_id(reply.public_key.hex())
    return envelope.with_signature(Signature(keyid=key, sig=base64.b64encode(reply.signature).decode()))


def _key_id(public_hex: str) -> str:
    from evaluation.trust import key_id

    return key_id(bytes.fromhex(public_hex))


def _limits(state: State) -> tuple[str, ...]:
    """Return what a reader must know, from what always holds to what this campaign did."""
    from privacy import coverage

    beside = "; ".join(coverage.uncovered(_steps(state)))
    reader = next(iter(state.campaign.experiment["cohort"]))
    found = [*LIMITS, *_nature(state), f"Stated beside the release, and not covered by its ε: {beside}."]
    if mixed := state.campaign.experiment["sites"]["cohorts"]:
        found.append(
            f"The {len(mixed)} sites of this campaign were simulated on one machine, each from its own folder."
        )
    elif reader == "phantom":
        found.append("A rehearsal: the subjects of this campaign are simulated, no patient took part.")
    else:
        found.append("The sites of this campaign were simulated on one machine from one data set.")
    return (*found, *state.campaign.experiment["limits"])


def _nature(state: State) -> tuple[str, ...]:
    """Return what kind of pictures these are, and what of them nobody looked at."""
    pixels = f"{state.campaign.size}x{state.campaign.size} pixels"
    if not _moves(state):
        return (f"The synthetic images are {pixels}, single frames: not for diagnosis.",)
    told = next(stage.settings for stage in state.campaign.stages if stage.do == "film")
    found = state.read_json("sample", FILM)
    obeyed = (
        f" In the masks of {found['hearts']} hearts, biplane disks find them to within {found['error_points']} points "
        f"on average (r = {found['correlation']})."
        if "correlation" in found
        else ""
    )
    return (
        f"The synthetic clips are {pixels}, {told['frames']} frames of one beat, enlarged and written as Motion JPEG; "
        "stills are their end diastole and end systole: not for diagnosis.",
        "Ejection fractions are those that were asked for." + obeyed,
        "The disclosure attack looked at end diastole and end systole of each clip, not at what lies between.",
    )


def _own_key(path: Path) -> SigningKey:
    if not path.exists():
        SigningKey.create().write(path)
    return SigningKey.read(path)
