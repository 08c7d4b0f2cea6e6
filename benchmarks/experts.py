"""Measure weighted experts: five phantom sites with words of their own arrive one by one, and no picture may move.

Classes are view and whether a contrast agent was given, eight of them, of which each site names some; or view and
phase, which in one small frame is nearly a matter of chance (`--classes phase`). At each arrival the newcomer trains an
expert from weights that public phantoms taught, or from the first expert's (`--start own`), everyone runs it on their
own pictures, and fusion heads are learnt anew by federation. Test patients of all sites so far are told apart among all
classes so far; nobody says whose they are. Legal baselines pool the experts without training, or pass one network on
from site to site; pooled retraining, which would need everyone's pictures in one place, is the bound. Seconds are of
one core, sites one after the other, by the process' own clock, so that other work on the machine does not count.
Fusion was tuned on seed 100; that a public start helps was first seen on seed 0.

python -m benchmarks.experts [--write] [--classes contrast|phase] [--start own|public] [--first-seed N] [--seeds N]
                            [--subjects N] [--arrivals N] [--longer N] [--keep FOLDER]
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.contrast import ONTOLOGIES, STYLES, VOCABULARIES, WORD, PhantomSite, sites
from cohorts.frames import Frames, concatenate
from learning import arrays
from learning.experts import (
    HEAD,
    ByProducts,
    FrozenExpert,
    Reference,
    freeze,
    max_logit,
    max_probability,
    most_confident,
    observe,
    warm_start,
)
from learning.fusion import Attention, Fusion, FusionNet, SiteFrames, augmented, federate, fit_released
from learning.learner import fit
from learning.learners.expert import Expert, ExpertLearner
from learning.ontology import SiteLabelMap

TESTED = 40  # subjects that each site keeps for the test
BATCH, LEARNING_RATE = 32, 3e-3
FIRST, NEWCOMER, POOLED = 28, 16, 28  # epochs: of the first expert, of one that starts from it, and of retraining
ROUNDS, FUSION_BATCH, FUSION_RATE, PASSES = 240, 128, 1e-2, 2
FUSIONS = {"SF": Attention.NOTHING, "attn-wSF": Attention.FEATURES, "nmd-wSF": Attention.DISCREPANCY}
UNTRAINED: Mapping[str, Callable[[ByProducts, Sequence[SiteLabelMap]], torch.Tensor]] = {
    "max-logit": max_logit,
    "MSP": max_probability,
    "confidence routing": most_confident,
}
BEST = "nmd-wSF"  # chosen on other phantoms; learnt from a release as well
TUNED, EXPANDED = "fine-tuning", "fine-tuning, own words"
BOUND, PUBLIC = "pooled retraining", "public start alone"
OTHERWISE = {"half as long": 0.5, "twice as long": 2.0}  # to see whether retraining had converged, and no more
BEGINNING = {
    False: f"The first expert takes {FIRST} epochs, later ones start from it and take {NEWCOMER}, as does fine-tuning; "
    "retraining starts from nothing.",
    True: "Everything, retraining as well, starts from one network that phantoms of nobody's site taught all classes, "
    f"in public and before; experts and fine-tuning take {NEWCOMER} epochs. Such a start flatters: those phantoms come "
    "from the simulator that the patients come from.",
}


@dataclass(slots=True, kw_only=True)
class Figures:
    """What was measured of one method after one arrival.

    Attributes:
        accuracy: share of the frames named rightly, averaged over patients.
        first: the same for patients of the first site.
        seconds: of training at this arrival.
        megabytes: that moved at this arrival.
    """

    accuracy: float
    first: float
    seconds: float
    megabytes: float


def by_patient(right: NDArray[np.bool_], frames: Frames) -> float:
    """Return the mean over patients of the share of their frames that is right."""
    n = np.bincount(frames.subject, minlength=len(frames.subjects))
    return float(np.mean(np.bincount(frames.subject, weights=right, minlength=len(frames.subjects)) / n))


class Campaign:
    """One order of arrivals, with all that the methods keep between them."""

    def __init__(self, *, seed: int, n_subjects: int, by: str, public: bool) -> None:
        self.seed, self.sites, self.names = seed, sites(by), ONTOLOGIES[by].names
        self.called = f"{by}-{n_subjects}-{'public' if public else 'own'}-{seed}"
        self.train = {s.name: s.frames(n_subjects, seed=2 * seed) for s in self.sites}
        self.test = {s.name: s.frames(TESTED, seed=2 * seed + 1) for s in self.sites}
        # Phantoms of nobody's site, drawn as widely as scanners differ, stand for a synthetic release.
        every = tuple(range(len(self.names)))
        anyone = PhantomSite(name="released", style="wide", seed=9, classes=every, by=by)
        self.released = anyone.frames(TESTED, seed=2 * seed)
        self.start: arrays.Arrays = {}
        if public:
            taught = self._network(range(len(self.names)))
            self._fit(taught, anyone.frames(n_subjects, seed=2 * seed + 1), epochs=FIRST)
            self.start = arrays.state(taught.module)
        self.experts: list[FrozenExpert] = []
        self.seen: dict[str, SiteFrames] = {}
        self.passed_on = {name: self._network(range(len(self.names))) for name in (TUNED, EXPANDED)}
        self.own_weight: dict[str, float] = {}

    def arrive(self, site: PhantomSite, *, longer: bool) -> dict[str, Figures]:
        """Let `site` join; return the figures of every method, and of retraining that takes longer where asked."""
        digests = [e.digest for e in self.experts]
        spent, moved = self._expert(site)
        so_far = [s.name for s in self.sites[: len(self.experts)]]
        tests = {name: (self.test[name], observe(self.experts, self.test[name].pixels)) for name in so_far}
        maps = [e.label_map for e in self.experts]
        found = {
            name: self._figures({s: rule(seen, maps) for s, (_, seen) in tests.items()}, spent, moved)
            for name, rule in UNTRAINED.items()
        }
        for name, attention in FUSIONS.items():
            for way in ("", ", released") if name == BEST else ("",):
                net, more, heads = self._fusion(attention, federated=not way)
                with torch.no_grad():
                    scores = {s: net(seen) for s, (_, seen) in tests.items()}
                    shares = [net.weights(seen)[:, k].mean().item() for k, (_, seen) in enumerate(tests.values())]
                found[name + way] = self._figures(scores, spent + more, moved + heads)
                self.own_weight[name + way] = float(np.mean(shares))
        for name, learner in self.passed_on.items():
            before = time.process_time()
            self._pass_on(learner, site, own_words=name == EXPANDED)
            found[name] = self._network_figures(learner, so_far, time.process_time() - before)
            found[name].megabytes = (len(so_far) > 1) * _bytes(learner) / 1e6
        if self.start:
            found[PUBLIC] = self._network_figures(self._network(range(len(self.names))), so_far, 0.0)
        for name, times in {BOUND: 1.0, **(OTHERWISE if longer else {})}.items():
            before, learner = time.process_time(), self._network(range(len(self.names)))
            self._fit(learner, concatenate([self.train[n] for n in so_far]), epochs=times * POOLED)
            found[name] = self._network_figures(learner, so_far, time.process_time() - before)
            found[name].megabytes = self.train[site.name].pixels.nbytes / 1e6
        if digests != [e.digest for e in self.experts[:-1]]:
            raise RuntimeError("an expert that had been frozen changed")
        return found

    def keep(self, folder: Path, found: Mapping[str, Figures]) -> None:
        """Write what the last arrival left, so that a later run goes on from there."""
        newest, at = self.experts[-1], folder / f"{self.called}-{len(self.experts)}"
        whole = {**newest.arrays, "_mean": newest.mean, "_spread": newest.spread}
        arrays.write(at.with_suffix(".expert"), whole)
        for name, learner in self.passed_on.items():
            arrays.write(at.with_suffix(f".{name}"), arrays.state(learner.module))
        figures = {m: dataclasses.asdict(f) for m, f in found.items()}
        at.with_suffix(".json").write_text(json.dumps({"figures": figures, "own": self.own_weight}), encoding="utf-8")

    def recall(self, folder: Path, n: int) -> list[dict[str, Figures]]:
        """Read what `keep` wrote of the first `n` arrivals, as far as they have been."""
        run: list[dict[str, Figures]] = []
        for k, site in enumerate(self.sites[:n], 1):
            at = folder / f"{self.called}-{k}"
            if not at.with_suffix(".json").exists():
                break
            text = json.loads(at.with_suffix(".json").read_text(encoding="utf-8"))
            run.append({m: Figures(**f) for m, f in text["figures"].items()})
            self.own_weight = text["own"]
            whole = {n: a.astype(np.float32) for n, a in arrays.read(at.with_suffix(".expert")).items()}
            mean, spread, words = whole.pop("_mean"), whole.pop("_spread"), site.label_map
            config = Expert(classes=len(words.labels))
            expert = FrozenExpert(label_map=words, config=config, arrays=whole, mean=mean, spread=spread)
            self.experts.append(expert)
            for name, learner in self.passed_on.items():
                arrays.load_state(learner.module, arrays.read(at.with_suffix(f".{name}")))
        if len(run) < n:
            for site in self.sites[: len(run)]:
                more = self._varied(site)
                self.seen[site.name] = SiteFrames(frames=more, seen=observe(self.experts, more.pixels))
        return run

    def _varied(self, site: PhantomSite) -> Frames:
        return augmented(self.train[site.name], PASSES, generator=torch.Generator().manual_seed(self.seed))

    def _expert(self, site: PhantomSite) -> tuple[float, float]:
        """Train, freeze and send round the newcomer's expert; return seconds and megabytes."""
        words, own = site.label_map, self.train[site.name]
        learner = self._network(words.indices)
        start = time.process_time()
        if self.experts and not self.start:
            warm_start(learner, self.experts[0])
        mine = dataclasses.replace(own, view=words.to_site(own.view))
        self._fit(learner, mine, epochs=NEWCOMER if self.experts or self.start else FIRST)
        self.experts.append(freeze(learner, words, own.pixels, reference=Reference.OWN, private=False))
        self.seen = {
            name: SiteFrames(frames=old.frames, seen=old.seen.beside(observe(self.experts[-1:], old.frames.pixels)))
            for name, old in self.seen.items()
        }
        more = self._varied(site)
        self.seen[site.name] = SiteFrames(frames=more, seen=observe(self.experts, more.pixels))
        sizes = [e.n_bytes for e in self.experts]  # the newcomer's to everyone before, theirs to the newcomer
        return time.process_time() - start, (sizes[-1] * (len(sizes) - 1) + sum(sizes[:-1])) / 1e6

    def _fusion(self, attention: Attention, *, federated: bool) -> tuple[FusionNet, float, float]:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            net = Fusion(attention=attention).build(self.experts)
        start, moved = time.process_time(), 0
        rows, rate = FUSION_BATCH, FUSION_RATE
        if federated:
            moved = federate(
                net, self.seen, rounds=ROUNDS, steps=1, batch_size=rows, learning_rate=rate, seed=self.seed
            )
        else:
            fit_released(
                net, self.experts, self.released, steps=2 * ROUNDS, batch_size=rows, learning_rate=rate, seed=self.seed
            )
        return net, time.process_time() - start, moved / 1e6

    def _pass_on(self, learner: ExpertLearner, site: PhantomSite, *, own_words: bool) -> None:
        """Go on training on the newest site, with `own_words` as if there were no classes but its own."""
        own, epochs = self.train[site.name], NEWCOMER if len(self.experts) > 1 or self.start else FIRST
        if not own_words:
            return self._fit(learner, own, epochs=epochs)
        words, whole = site.label_map, arrays.state(learner.module)
        part = self._network(words.indices)
        some = {n: a[words.indices] if n.startswith(HEAD) else a for n, a in whole.items()}
        arrays.load_state(part.module, some)
        self._fit(part, dataclasses.replace(own, view=words.to_site(own.view)), epochs=epochs)
        for name, array in arrays.state(part.module).items():
            whole[name] = whole[name].copy()
            whole[name][words.indices if name.startswith(HEAD) else slice(None)] = array
        return arrays.load_state(learner.module, whole)

    def _network_figures(self, learner: ExpertLearner, so_far: Sequence[str], seconds: float) -> Figures:
        scores = {name: torch.from_numpy(learner.predict(self.test[name].pixels)) for name in so_far}
        return self._figures(scores, seconds, 0.0)

    def _figures(self, scores: Mapping[str, torch.Tensor], seconds: float, megabytes: float) -> Figures:
        right = [by_patient(s.argmax(1).numpy() == self.test[n].view, self.test[n]) for n, s in scores.items()]
        return Figures(accuracy=float(np.mean(right)), first=right[0], seconds=seconds, megabytes=megabytes)

    def _fit(self, learner: ExpertLearner, frames: Frames, *, epochs: float) -> None:
        steps = math.ceil(epochs * len(frames) / BATCH)
        fit(learner, frames, steps=steps, batch_size=BATCH, learning_rate=LEARNING_RATE, seed=self.seed)

    def _network(self, classes: Sequence[int] | NDArray[np.int64]) -> ExpertLearner:
        """Return a network for some classes of the ontology, as everybody's begins."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            learner = Expert(classes=len(classes)).build()
        if self.start:
            rows = np.asarray(classes)
            arrays.load_state(learner.module, {n: a[rows] if n.startswith(HEAD) else a for n, a in self.start.items()})
        return learner


def _warm_up() -> None:
    """Take a step that nobody times: the first one loads what all share."""
    frames = sites("phase")[0].frames(1, seed=0)
    fit(Expert(classes=8).build(), frames, steps=1, batch_size=2, learning_rate=LEARNING_RATE, seed=0)


def _bytes(learner: ExpertLearner) -> int:
    return sum(4 * p.numel() for p in learner.module.parameters())


def _as_asked(options: argparse.Namespace) -> str:
    return "".join(
        f" --{n} {getattr(options, n)}" for n in ("classes", "start", "seeds", "subjects", "arrivals", "longer")
    )


def report(runs: Sequence[Sequence[Mapping[str, Figures]]], weights: Sequence[Mapping[str, float]], by: str) -> str:
    """Return tables of the means over `runs` of campaigns, and what was reached of the aims.

    Args:
        runs: of each seed, of each arrival, the figures of every method.
        weights: of each seed, the mean weight of an expert at its own site.
        by: what is told apart beside views.
    """

    def mean(method: str, arrival: int, of: str = "accuracy") -> float:
        return float(np.mean([getattr(run[arrival][method], of) for run in runs]))

    last = len(runs[0]) - 1
    methods = list(runs[0][0])
    later = range(min(1, last), last + 1)
    curve, cost = [], []
    for m in methods:
        forgotten = mean(m, last, "first") - mean(m, 0, "first")
        spread = float(np.std([run[last][m].accuracy for run in runs]))
        curve.append([m, *(mean(m, t) for t in range(last + 1)), f"{spread:.3f}", f"{forgotten:+.3f}"])
        shares = [mean(m, t, "seconds") / mean(BOUND, t, "seconds") for t in range(last + 1)]
        in_all = sum(mean(m, t, "seconds") for t in later) / sum(mean(BOUND, t, "seconds") for t in later)
        megabytes = sum(mean(m, t, "megabytes") for t in range(last + 1))
        cost.append([m, *(f"{s:.2f}" for s in shares), f"{in_all:.2f}", mean(m, last, "seconds"), megabytes])
    changes = []
    for how in OTHERWISE:
        tried = [run[last] for run in runs if how in run[last]]
        if tried:
            more = np.mean([100 * (at[how].accuracy - at[BOUND].accuracy) for at in tried])
            share = np.mean([at[BEST].seconds / at[how].seconds for at in tried])
            changes.append(f"{how} {more:+.1f}, of whose seconds {BEST} takes {share:.2f} ({len(tried)} seed(s))")
    fused = [m for m in methods if m.split(",")[0] in FUSIONS]
    legal = [m for m in methods if m not in fused and m != BOUND]
    rival = max(legal, key=lambda m: mean(m, last))
    ahead = min(100 * (mean(BEST, t) - max(mean(m, t) for m in legal)) for t in later)
    gain, gap = (100 * (mean(BEST, last) - mean(m, last)) for m in (rival, BOUND))
    worst = min(100 * (run[last][BEST].accuracy - max(run[last][m].accuracy for m in legal)) for run in runs)
    dear = [t + 1 for t in later if mean(BEST, t, "seconds") > mean(BOUND, t, "seconds") / 3]
    told = [m for m in fused if FUSIONS[m.split(",")[0]] is not Attention.NOTHING]
    own = ", ".join(f"{m} {np.mean([w[m] for w in weights]):.2f}" for m in told)
    names = [f"{t + 1}: {n}" for t, n in enumerate(list(STYLES)[: last + 1])]
    return "\n\n".join(
        [
            f"Accuracy of naming view and {WORD[by]} after each arrival, mean over patients and then over sites so "
            f"far, of {len(runs)} seed(s); the spread is the standard deviation over seeds after the last; backward "
            "transfer is the accuracy at the first site after the last arrival less that after the first. Patients of "
            "test are nobody's of training.",
            results.table(["method", *names, "spread", "backward transfer"], curve),
            "Seconds of training at each arrival over those of pooled retraining at the same arrival; the same in all "
            "from the second arrival on; seconds at the last; megabytes moved in all, which for pooled retraining are "
            f"the pictures, that may not move. {BEGINNING[PUBLIC in methods]} Retraining takes {POOLED}. An expert's "
            f"own site gives it a weight of (mean; even shares would be {1 / (last + 1):.2f}): {own}.",
            results.table(["method", *names, "in all", "seconds at the last", "MB"], cost),
            "Has retraining converged, and sooner? After the last arrival, in points: "
            f"{'; '.join(changes) or 'not tried'}. Where half as long does as well, that is what it needs, and the "
            "share of its seconds is the one to look at.",
            f"Aims, of {BEST}, which was chosen on other phantoms. Above every legal baseline: after the last arrival "
            f"{gain:+.1f} points from the best, {rival}, {worst:+.1f} in the worst seed, and {ahead:+.1f} at the worst "
            f"arrival. Within 2 points of pooled retraining: {gap:+.1f}. At most a third of the seconds of its "
            f"{POOLED} epochs: "
            + ("at every arrival from the second" if not dear else f"not at arrivals {', '.join(map(str, dear))}")
            + ". Baselines: those of Bransby et al.; federated training of one network is none of them.",
        ]
    )


def main() -> None:
    """Run the campaigns; print, and with --write record, what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--classes", default="contrast", choices=sorted(VOCABULARIES))
    parser.add_argument("--start", default="public", choices=("own", "public"))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--subjects", type=int, default=90)
    parser.add_argument("--arrivals", type=int, default=len(STYLES), choices=range(1, len(STYLES) + 1))
    parser.add_argument(
        "--longer", type=int, default=1, help="of how many seeds the last retraining is tried for other times"
    )
    parser.add_argument("--keep", type=Path, help="a folder from which a run that was stopped goes on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    _warm_up()
    runs, weights = [], []
    for k in range(options.seeds):
        campaign = Campaign(
            seed=options.first_seed + k,
            n_subjects=options.subjects,
            by=options.classes,
            public=options.start == "public",
        )
        run = campaign.recall(options.keep, options.arrivals) if options.keep else []
        for site in campaign.sites[len(run) : options.arrivals]:
            run.append(found := campaign.arrive(site, longer=k < options.longer and site is campaign.sites[-1]))
            if options.keep:
                campaign.keep(options.keep, found)
            print(k, site.name, {m: f"{f.accuracy:.3f} {f.seconds:.1f}s" for m, f in found.items()}, flush=True)
        runs.append(run)
        weights.append(campaign.own_weight)
    text = report(runs, weights, options.classes)
    if options.write:
        title = "Weighted experts" if options.classes == "contrast" else f"Weighted experts, {options.classes}"
        results.write(title, f"python -m benchmarks.experts --write{_as_asked(options)}", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
