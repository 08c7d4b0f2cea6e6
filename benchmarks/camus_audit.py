"""What do the re-identification filter and the attacks say of releases of CAMUS whose truth is known?

Members of three hospitals of CAMUS (Leclerc et al. 2019) are held against calibration and test people of the same
hospitals, told apart by lot. τ is calibrated on calibration people and judged on test people; copies are planted of
every member. Releases: other real people, whom nobody trained on (and who are then no controls); the DP generator of
`benchmarks.camus_release` at ε = 8; and the same with one altered picture each of 5 % of the members among it, one
family at level 2 a release. Every audit is repeated over seeds, which choose the reference, the copied members and all
else that is drawn. A verdict is that of `conf/policy/audit.yaml`.

python -m benchmarks.camus_audit [--write] [--data FOLDER] [--kept FOLDER] [--release FOLDER] [--seeds N]
"""

import argparse
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.camus_release import HOUSE, Hospitals
from cohorts import frames as table
from cohorts.frames import VIEWS, Frames, concatenate
from cohorts.split import Split
from cohorts.study import SubjectKey
from evaluation.attacked import findings
from evaluation.evidence import Decision, Verdict, decide, exact
from evaluation.policy import Lane, Policy
from learning import arrays
from learning.blocks import to_pixels, to_signal
from privacy.attacks.disclosure import Disclosure
from privacy.embedding import POSES, WIDE, Pose, embed, embed_poses
from privacy.gallery import Gallery
from privacy.planted_families import LEVELS, STANDARD, Pixels, planted
from privacy.planted_trial import by_family, caught, likenesses
from privacy.reidentification_evaluation import ONE_CLIP, ONE_STUDY, Verification, verify
from privacy.reidentification_rates import rates, refused_by
from privacy.reidentification_search import Nearness, search
from privacy.reidentification_threshold import Threshold, calibrate
from privacy.suite import RANDOM, Suite, examine
from privacy.verbatim import likest
from privacy.votes import VoteFilter, ballots, catch_bound, spread
from synthesis import flow
from synthesis.generators.latent_flow import LatentFlow

TITLE = "Audit of CAMUS"
COPIED, LEVEL = 0.05, 2
OTHERS = 1 / 3  # of calibration and test people, who stand for an honest release
FAMILIES = (*STANDARD, "blend", "round trip")
LANES = {"narrow": POSES, "wide": WIDE}
CLAIMS = ((1, 2), (1, 2, 3))
BANDS = ("below 45", "45 to 55", "above 55")


class RoundTrip:
    """The generator's own autoencoder, and from strength 0 on its own denoiser (SDEdit, Meng et al. 2022)."""

    def __init__(self, sites: Hospitals, members: Frames) -> None:
        self.generator = LatentFlow(tune=HOUSE.tune).build()
        arrays.load(self.generator.module, sites.weights(HOUSE))
        self.generator.module.eval()
        self.members, self.row = members, {p.tobytes(): i for i, p in enumerate(members.pixels)}

    @torch.inference_mode()
    def __call__(self, pixels: Pixels, strength: float) -> Pixels:
        """Return pictures of members as the generator gives them back."""
        dice, parts = torch.Generator().manual_seed(0), []
        for start in range(0, len(pixels), 32):
            rows = np.array([self.row[p.tobytes()] for p in pixels[start : start + 32]])
            x, masks = to_signal(torch.from_numpy(self.members.pixels[rows])), self.members.masks[rows]
            z = self.generator.autoencoder.encode(x)
            if strength:
                field = self.generator.field(self.members, rows, at_sites=True)
                noised = flow.interpolate(z, torch.randn(z.shape, generator=dice), torch.full((len(z),), strength))
                z = flow.integrate(lambda at, t, f=field: strength * f(at, strength * t), noised, steps=6)
            noise = torch.randn(x.shape, generator=dice)
            parts.append(to_pixels(self.generator.autoencoder.decode(z, torch.from_numpy(masks), noise)).numpy())
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of known making.

    Attributes:
        name: in words.
        frames: its pictures.
        controls: people who are neither members nor in it.
        copies: subjects of `frames` that are altered copies of members, as indices.
    """

    name: str
    frames: Frames
    controls: Frames
    copies: tuple[int, ...] = ()


class Cohort:
    """Members, and who is not."""

    def __init__(self, sites: Hospitals, drawn: Frames) -> None:
        self.members, self.calibration, self.test = (concatenate(sites.lots[lot]) for lot in Split)
        self.strangers, self.drawn = concatenate([self.calibration, self.test]), drawn

    def releases(self, back: RoundTrip, seed: int) -> Iterator[Release]:
        """Yield what is audited at one seed."""
        rng = np.random.default_rng(seed)
        names = [self.strangers.subjects[i] for i in rng.permutation(len(self.strangers.subjects))]
        n = round(OTHERS * len(names))
        others, rest = self.strangers.select(names[:n]), self.strangers.select(names[n:])
        released = replace(others, subjects=tuple(SubjectKey(f"other-{i}") for i in range(n)))
        yield Release(name="other real people", frames=released, controls=rest)
        yield Release(name="DP generator, ε = 8", frames=self.drawn, controls=self.strangers)
        count = math.ceil(COPIED * len(self.members.subjects))
        for family in FAMILIES:
            who = rng.choice(len(self.members.subjects), count, replace=False)
            copies = self.copies(who, family, back, rng)
            mixed = concatenate([self.drawn, copies])
            first = len(self.drawn.subjects)
            yield Release(
                name=f"DP generator and copies: {family}",
                frames=mixed,
                controls=self.strangers,
                copies=tuple(range(first, first + count)),
            )

    def copies(self, who: NDArray[np.int64], family: str, back: RoundTrip, rng: np.random.Generator) -> Frames:
        """Return one altered picture each of some members, as synthetic subjects of one picture."""
        rows = np.array([rng.choice(np.flatnonzero(self.members.subject == one)) for one in who])
        others = self.drawn.pixels[rng.integers(0, len(self.drawn), len(rows))]
        pixels = [
            planted(self.members.pixels[[r]], family=family, level=LEVEL, rng=rng, other=o[None], round_trip=back)[0]
            for r, o in zip(rows, others, strict=True)
        ]
        return Frames(
            pixels=np.stack(pixels),
            masks=self.members.masks[rows],
            view=self.members.view[rows],
            phase=self.members.phase[rows],
            lvef_percent=np.full(len(rows), np.nan, np.float32),
            subject=np.arange(len(rows)),
            subjects=tuple(SubjectKey(f"copy-{i}") for i in range(len(rows))),
        )


def per_subject(values: NDArray[np.float32], frames: Frames) -> NDArray[np.float32]:
    """Return the largest of every subject's."""
    best = np.full(len(frames.subjects), -1.0, np.float32)
    np.maximum.at(best, frames.subject, values)
    return best


class Filter:
    """The exact filter, held in one set of poses, calibrated for one claim of levels."""

    def __init__(self, cohort: Cohort, poses: tuple[Pose, ...], back: RoundTrip) -> None:
        self.cohort, self.poses = cohort, poses
        seen = search(cohort.members.pixels, embed(cohort.strangers.pixels), poses=poses)
        self.strangers = per_subject(seen.candidate, cohort.strangers)
        self.nearest = np.array([self._at(seen, cohort.strangers, k) for k in range(len(cohort.strangers.subjects))])
        self.found = likenesses(
            cohort.members,
            families=FAMILIES,
            levels=LEVELS,
            others=cohort.drawn.pixels,
            round_trip=back,
            hold=lambda pixels: embed_poses(pixels, poses),
        )

    def threshold(self, levels: tuple[int, ...]) -> Threshold:
        """Return τ for a claim of standard families at some levels."""
        n = len(self.cohort.calibration.subjects)
        claimed = {key: v for key, v in self.found.items() if key[0] in STANDARD}
        return calibrate(self.strangers[:n], by_family(claimed, levels), fresh=self.strangers[n:])

    def _at(self, seen: Nearness, frames: Frames, subject: int) -> int:
        rows = np.flatnonzero(frames.subject == subject)
        return int(self.cohort.members.subject[seen.patient_of[rows[seen.candidate[rows].argmax()]]])


def thresholds(filters: Mapping[str, Filter]) -> str:
    """Say what both calibrations ask for."""
    rows = []
    for name, sieve in filters.items():
        for levels in CLAIMS:
            found = sieve.threshold(levels)
            rejected = found.false_rejection
            claimed = {f: v for f, v in by_family(sieve.found, levels).items() if f in STANDARD}
            worst = min(claimed, key=lambda f: float(np.quantile(claimed[f], 0.05)))
            told = "" if rejected is None else f"{rejected.value:.3f} ({rejected.low:.3f} to {rejected.high:.3f})"
            verdict = "usable" if found.adequate else "INCONCLUSIVE"
            claim = f"{levels[0]} to {levels[-1]}"
            rows.append([f"{name}, {len(sieve.poses)}", claim, found.strangers or "too few", found.copies or "too few",
                         worst, found.tau, told, verdict])  # fmt: skip
    head = ["poses", "levels claimed", "τ of strangers", "τ of copies", "hardest family", "τ", "strangers rejected",
            "filter"]  # fmt: skip
    return results.table(head, rows)


def planted_table(sieve: Filter, tau: float) -> str:
    """Say which copies are caught."""
    shares = {(c.family, c.level): f"{c.caught / c.n:.3f} ({c.lcb95:.3f})" for c in caught(sieve.found, tau)}
    return results.table(
        ["family", *(f"level {k}" for k in LEVELS)], [[f, *(shares[f, k] for k in LEVELS)] for f in FAMILIES]
    )


def curves(cohort: Cohort) -> str:
    """Say how well likeness tells held-out people apart."""
    people, rows = cohort.strangers, []
    for kind in (ONE_CLIP, ONE_STUDY):
        for view in (None, *(VIEWS if kind is ONE_CLIP else ())):
            mine = people.view >= 0 if view is None else people.view == VIEWS.index(view)
            if not mine.any():
                continue
            columns = {"view": people.view[mine], "phase": people.phase[mine]}
            found = verify(embed(people.pixels[mine]), people.subject[mine], columns, kind, seed=0)
            rows.append(_row(found, kind.name if view is None else f"{kind.name}: {view.value}"))
    head = ["pairs", "people", "pairs of strangers", "AUC", "EER", "found at 1 %", "at 0.1 %", "rank 1"]
    return results.table(head, rows)


def _row(found: Verification, name: str) -> list[object]:
    told = [found.auc, found.eer, found.tpr.get(0.01), found.tpr.get(0.001), found.rank_1]
    shown = ["–" if e is None else f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})" for e in told]
    return [name, found.n_same, found.n_other, *shown]


def screened(sieve: Filter, tau: float, found: list[Release]) -> str:
    """Say what the exact filter does to releases, subject by subject, and to the copies among them."""
    rows, held = [], (sieve.strangers, sieve.nearest)
    for release in (r for r in found if not r.copies):
        seen = search(sieve.cohort.members.pixels, embed(release.frames.pixels), poses=sieve.poses)
        score = per_subject(seen.candidate, release.frames)
        nearest = np.array([sieve._at(seen, release.frames, k) for k in range(len(score))])
        told = rates((score, nearest), held, members=len(sieve.cohort.members.subjects), seed=0)
        group = refused_by(score < tau, [("", *BANDS)[int(band) + 1] for band in _bands(release.frames)])
        bands = ", ".join(f"{band}: {e.value:.2f} of {e.n}" for band in BANDS if (e := group.get(band)))
        rows.append([release.name, len(score), float((score >= tau).mean()), told.excess, told.coverage, told.gini,
                     bands])  # fmt: skip
    head = ["release", "subjects", "refused", "flagged beyond 5 %", "coverage", "Gini", "refused by LVEF"]
    caught_of = []
    for release in (r for r in found if r.copies):
        own = np.isin(release.frames.subject, release.copies)
        seen = search(sieve.cohort.members.pixels, embed(release.frames.pixels[own]), poses=sieve.poses)
        family = release.name.rpartition(": ")[2]
        caught_of.append(f"{family} {int((seen.candidate >= tau).sum())} of {own.sum()}")
    return results.table(head, rows) + f"\n\nCopies refused: {', '.join(caught_of)}."


def _bands(frames: Frames) -> NDArray[np.float64]:
    """Return 0, 1 or 2 of every subject by its ejection fraction, -1 where unknown."""
    lvef = np.full(len(frames.subjects), np.nan)
    lvef[frames.subject] = frames.lvef_percent
    return np.where(np.isnan(lvef), -1, np.digitize(np.nan_to_num(lvef), (45, 55.0001)))


def voted(sieve: Filter, tau: float, release: Release) -> str:
    """Say what voting with noise can do to the release with copies."""
    images, owner, n = embed(release.frames.pixels), release.frames.subject, len(release.frames.subjects)
    apart, likely = (int(spread(images, owner, tau=t).sum()) for t in (tau, math.sqrt((1 + tau**2) / 2)))
    held = sieve.cohort.members
    patients = embed_poses(held.pixels)
    votes = ballots(
        patients.reshape(-1, patients.shape[-1]),
        np.repeat(held.subject, patients.shape[1]),
        images,
        owner,
        tau=tau,
    )
    copy = np.isin(np.arange(n), release.copies)
    told = (
        f"Of {n} candidates {apart} lie more than twice τ apart, so that none can share a vote with another; {likely} "
        f"lie farther apart than τ² = {tau**2:.3f}, as two copies do that differ from one picture each in its own way. "
        f"With one vote each, {int(votes.sum())} of "
        f"{len(held.subjects)} members vote; {int((votes[copy] > 0).sum())} of {copy.sum()} copies and "
        f"{int((votes[~copy] > 0).sum())} of {(~copy).sum()} others draw a vote. Expected:"
    )
    rows = []
    for epsilon in (1.0, 2.0, 3.0):
        for threshold in (0, 1):
            vote = VoteFilter(epsilon=epsilon, threshold=threshold)
            kept, beta = np.array([vote.acceptance(int(v)) for v in votes]), 1 - vote.acceptance()
            of_copies, of_others = float(kept[copy].mean()), float(kept[~copy].mean())
            rows.append([epsilon, threshold, beta, 1 - of_copies, catch_bound(epsilon, beta), 1 - of_others,
                         of_copies / of_others])  # fmt: skip
    head = ["ε", "t", "β", "copies refused", "most by any DP filter", "others refused", "prevalence of copies ×"]
    return told + "\n\n" + results.table(head, rows)


def audited(release: Release, cohort: Cohort, seed: int, policy: Policy) -> tuple[Decision, Suite]:
    """Attack one release as `pericard audit` would, and judge it."""
    share = 0.5 / (0.5 + 0.5 * len(release.controls.subjects) / len(cohort.strangers.subjects))
    suite = examine(release.frames, cohort.members, release.controls, split=RANDOM, seed=seed,
                    disclosure=Disclosure(inclusion=share))  # fmt: skip
    shown = Gallery.of(release.frames)
    very = likest(Gallery.of(cohort.members), shown).verbatim
    clues = [c for c in suite.alone["copies"] if c.name == "identical pictures" or "twins" in c.name]
    said = [exact("release.very_pictures", float(very.sum()), n=len(very)),
            exact("copies.clues", float(sum(c.fails for c in clues)), n=len(shown.subjects)),
            *(exact(f"release.{kind}", 0.0) for kind in ("identifiers", "traces"))]  # fmt: skip
    return decide(policy, [*said, *findings(suite)], lane=Lane.NONE), suite


def _rules(decisions: list[Decision], verdict: Verdict) -> str:
    """Return which rules came to `verdict`, and how often."""
    told = Counter(j.rule.id for d in decisions for j in d.judged if j.required and j.verdict is verdict)
    return ", ".join(f"{rule} {times}" for rule, times in told.items()) or "–"


def verdicts(cohort: Cohort, back: RoundTrip, seeds: int) -> str:
    """Audit every release at every seed."""
    policy, rows = Policy.load("audit"), {}
    for seed in range(seeds):
        for release in cohort.releases(back, seed):
            rows.setdefault(release.name, []).append(audited(release, cohort, seed, policy))
    told = []
    for name, runs in rows.items():
        decisions, suites = [d for d, _ in runs], [s for _, s in runs]
        counted = Counter(d.verdict.value for d in decisions)
        least = [s.disclosure["smallest_share"] for s in suites]
        shown = _mean([s.disclosure["members_disclosed"] for s in suites])
        chance = _mean([s.disclosure["controls_disclosed"] for s in suites])
        told.append([
            name, f"{suites[0].n_member} / {suites[0].disclosure['controls']}",
            ", ".join(f"{k} {v}" for v, k in counted.items()), _rules(decisions, Verdict.FAIL),
            _rules(decisions, Verdict.INCONCLUSIVE),
            f"{shown:.1f} / {chance:.1f}", f"{max(float(s.disclosure['p_value'] or 0) for s in suites):.2g}",
            _mean([s.disclosure["eps_lb"] for s in suites]),
            _mean([max(r.auc.value for r in s.records if r.auc and "." not in r.name) for s in suites]),
            _mean([s.disclosure["power_5_percent"] for s in suites]),
            _mean([s.positive_control.get(COPIED, math.nan) for s in suites]),
            f"{100 * max(float(s) for s in least if s is not None):g} %" if any(least) else "none",
            f"{sum(s.blind_baseline for s in suites)} of {seeds}",
        ])  # fmt: skip
    head = ["release", "members / controls", "verdicts", "rules that failed it", "rules left open",
            "shown: members / controls", "largest p", "ε at least", "largest AUC", "power of disclosure at 5 %",
            "of membership attacks at 5 %", "smallest leak seen", "blind baseline silent"]  # fmt: skip
    return results.table(head, told)


def _mean(values: list[object]) -> float:
    return float(np.mean([float(v) for v in values if v is not None]))


def report(sites: Hospitals, drawn: Frames, seeds: int) -> str:
    """Measure everything and say it."""
    cohort = Cohort(sites, drawn)
    back = RoundTrip(sites, cohort.members)
    filters = {name: Filter(cohort, poses, back) for name, poses in LANES.items()}
    wide = filters["wide"]
    strict, modest = (wide.threshold(levels).tau for levels in reversed(CLAIMS))
    found = list(cohort.releases(back, 0))
    sizes = f"{len(cohort.members.subjects)} members, {len(cohort.calibration.subjects)} calibration people, "
    sizes += f"{len(cohort.test.subjects)} test people; the DP release has {len(drawn.subjects)} subjects."
    return "\n\n".join([
        " ".join(__doc__.split("\n\n")[1].split()), sizes,
        "Both calibrations; τ is the stricter one. Of test people, every picture counts:", thresholds(filters),
        "How likeness tells held-out people apart; intervals over people. An EER is of single pictures:",
        curves(cohort),
        f"Share of planted copies caught and its lower bound, wide poses, τ = {modest:.3f} (levels 1 and 2 claimed). "
        "CAMUS has stills, so that nothing is said of copies in time:", planted_table(wide, modest),
        f"The same at τ = {strict:.3f} (levels 1 to 3 claimed):", planted_table(wide, strict),
        f"What the exact filter does to releases at τ = {modest:.3f}:",
        screened(wide, modest, found),
        f"The vote filter on the release with copies in blends, narrow poses, τ = {modest:.3f}. "
        + voted(wide, modest, next(r for r in found if r.name.endswith("blend"))),
        f"Audits, {seeds} seeds each; numbers are means over seeds unless they say otherwise. The blind baseline "
        "guesses members without any release; where it is not silent, no attack decides:",
        verdicts(cohort, back, seeds),
    ])  # fmt: skip


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="where camus_224 lies")
    arguments.add_argument("--kept", type=Path, help="folder of weights of an earlier `benchmarks.camus_release`")
    arguments.add_argument("--release", type=Path, help="folder with released.safetensors of an earlier draw")
    arguments.add_argument("--seeds", type=int, default=5, help="audits of each release")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:  # one training serves the release and the round trips
        sites = Hospitals(given.data, given.kept or Path(scratch))
        drawn = sites.release(HOUSE) if given.release is None else table.read(given.release / "released.safetensors")
        text = report(sites, drawn, given.seeds)
    if given.write:
        results.write(TITLE, "python -m benchmarks.camus_audit --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
