"""Measure weighted experts: five phantom sites with words of their own arrive one by one, and no picture may move.

Classes are view and phase, eight of them; each site names some. At each arrival the newcomer trains an expert from the
first one's weights, everyone runs it on their own pictures, and fusion heads are learnt anew by federation. Test
patients of all sites so far are told apart among all classes so far; nobody says whose they are. Legal baselines pool
the experts without training, or pass one network on from site to site; pooled retraining, which would need everyone's
pictures in one place, is the bound. Seconds are of one core, sites one after the other, by the process' own clock, so
that other work on the machine does not count.

python -m benchmarks.experts [--write] [--seeds N] [--subjects N] [--epochs N] [--arrivals N] [--long]
                            [--keep FOLDER]
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
from cohorts.frames import VIEWS, Frames, concatenate
from cohorts.phantom.simulate import stills
from learning import arrays
from learning.experts import (
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
from learning.ontology import Ontology, SiteLabelMap

ONTOLOGY = Ontology(names=tuple(f"{view} {phase}" for view in VIEWS for phase in ("ED", "ES")))
BATCH, LEARNING_RATE = 32, 3e-3
LONGER = 3  # times, for a bound that is nearer to what pooling can reach
ROUNDS, FUSION_BATCH, FUSION_RATE, PASSES = 120, 64, 1e-2, 2
FUSIONS = {"SF": Attention.NOTHING, "attn-wSF": Attention.FEATURES, "nmd-wSF": Attention.DISCREPANCY}
UNTRAINED: Mapping[str, Callable[[ByProducts, Sequence[SiteLabelMap]], torch.Tensor]] = {
    "max-logit": max_logit,
    "MSP": max_probability,
    "confidence routing": most_confident,
}
BEST = "nmd-wSF"  # chosen on other phantoms; learnt from a release as well
TUNED, BOUND = "fine-tuning", "pooled retraining"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSite:
    """A site of the benchmark: its style of scanner, the seed of its people and the classes that it names."""

    name: str
    style: str
    seed: int
    classes: tuple[int, ...]

    def frames(self, n_subjects: int, *, seed: int) -> Frames:
        """Simulate `n_subjects` patients whose `view` counts the classes of the ontology."""
        views = [VIEWS[i] for i in sorted({c // 2 for c in self.classes})]
        frames = stills(n_subjects, seed=1000 * seed + self.seed, style=self.style, views=views)
        return dataclasses.replace(frames, view=2 * frames.view + frames.phase)

    @property
    def label_map(self) -> SiteLabelMap:
        """Return what the site's words mean."""
        return SiteLabelMap(
            site=self.name,
            labels=tuple(f"{self.name} {c}" for c in self.classes),
            means=tuple(ONTOLOGY.names[c] for c in self.classes),
            ontology=ONTOLOGY,
        )


SITES = (
    PhantomSite(name="site-a", style="site-a", seed=1, classes=(0, 1, 2, 3)),
    PhantomSite(name="site-b", style="site-b", seed=2, classes=(2, 3, 4, 5)),
    PhantomSite(name="site-c", style="site-c", seed=3, classes=(4, 5, 6, 7)),
    PhantomSite(name="wide-1", style="wide", seed=4, classes=(0, 1, 6, 7)),
    PhantomSite(name="wide-2", style="wide", seed=5, classes=(2, 3, 4, 5, 6, 7)),
)


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

    def __init__(self, *, seed: int, n_subjects: int, epochs: int) -> None:
        self.seed, self.epochs = seed, epochs
        self.train = {s.name: s.frames(n_subjects, seed=2 * seed) for s in SITES}
        self.test = {s.name: s.frames(n_subjects, seed=2 * seed + 1) for s in SITES}
        self.released = self._released(2 * n_subjects)
        self.experts: list[FrozenExpert] = []
        self.seen: dict[str, SiteFrames] = {}
        self.tuned = self._network(len(ONTOLOGY.names))
        self.own_weight: dict[str, float] = {}

    def arrive(self, site: PhantomSite) -> dict[str, Figures]:
        """Let `site` join; return the figures of every method."""
        digests = [e.digest for e in self.experts]
        spent, moved = self._expert(site)
        so_far = [s.name for s in SITES[: len(self.experts)]]
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
        newcomer = self.train[site.name]
        found[TUNED] = self._network_figures(self.tuned, newcomer, so_far)
        found[TUNED].megabytes = 2 * _bytes(self.tuned) / 1e6
        everyone = concatenate([self.train[name] for name in so_far])
        found[BOUND] = self._network_figures(self._network(len(ONTOLOGY.names)), everyone, so_far)
        found[BOUND].megabytes = newcomer.pixels.nbytes / 1e6
        if digests != [e.digest for e in self.experts[:-1]]:
            raise RuntimeError("an expert that had been frozen changed")
        return found

    def long_bound(self, folder: Path | None) -> float:
        """Return the accuracy of pooled retraining after the last arrival, `LONGER` times as long."""
        kept = folder / f"{self.seed}-{len(self.experts)}.bound" if folder else None
        if kept and kept.exists():
            return float(kept.read_text(encoding="utf-8"))
        so_far = [s.name for s in SITES[: len(self.experts)]]
        everyone, learner = concatenate([self.train[name] for name in so_far]), self._network(len(ONTOLOGY.names))
        self._fit(learner, everyone, epochs=LONGER * self.epochs)
        scores = {name: torch.from_numpy(learner.predict(f.pixels)) for name, f in self.test.items() if name in so_far}
        accuracy = self._figures(scores, 0.0, 0.0).accuracy
        if kept:
            kept.write_text(str(accuracy), encoding="utf-8")
        return accuracy

    def keep(self, folder: Path, found: Mapping[str, Figures]) -> None:
        """Write what the last arrival left, so that a later run goes on from there."""
        newest, at = self.experts[-1], folder / f"{self.seed}-{len(self.experts)}"
        whole = {**newest.arrays, "_mean": newest.mean, "_spread": newest.spread}
        arrays.write(at.with_suffix(".expert"), whole)
        arrays.write(at.with_suffix(".tuned"), arrays.state(self.tuned.module))
        figures = {m: dataclasses.asdict(f) for m, f in found.items()}
        at.with_suffix(".json").write_text(json.dumps({"figures": figures, "own": self.own_weight}), encoding="utf-8")

    def recall(self, folder: Path, n: int) -> list[dict[str, Figures]]:
        """Read what `keep` wrote of the first `n` arrivals, as far as they have been."""
        run: list[dict[str, Figures]] = []
        for k, site in enumerate(SITES[:n], 1):
            at = folder / f"{self.seed}-{k}"
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
            arrays.load_state(self.tuned.module, arrays.read(at.with_suffix(".tuned")))
        if len(run) < n:
            for site in SITES[: len(run)]:
                more = self._varied(site)
                self.seen[site.name] = SiteFrames(frames=more, seen=observe(self.experts, more.pixels))
        return run

    def _varied(self, site: PhantomSite) -> Frames:
        return augmented(self.train[site.name], PASSES, generator=torch.Generator().manual_seed(self.seed))

    def _expert(self, site: PhantomSite) -> tuple[float, float]:
        """Train, freeze and send round the newcomer's expert; return seconds and megabytes."""
        words, own = site.label_map, self.train[site.name]
        learner = self._network(len(words.labels))
        start = time.process_time()
        if self.experts:
            warm_start(learner, self.experts[0])
        mine = dataclasses.replace(own, view=words.to_site(own.view))
        self._fit(learner, mine, epochs=self.epochs)
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

    def _network_figures(self, learner: ExpertLearner, frames: Frames, so_far: Sequence[str]) -> Figures:
        start = time.process_time()
        self._fit(learner, frames, epochs=self.epochs)
        spent = time.process_time() - start
        scores = {name: torch.from_numpy(learner.predict(self.test[name].pixels)) for name in so_far}
        return self._figures(scores, spent, 0.0)

    def _figures(self, scores: Mapping[str, torch.Tensor], seconds: float, megabytes: float) -> Figures:
        right = [by_patient(s.argmax(1).numpy() == self.test[n].view, self.test[n]) for n, s in scores.items()]
        return Figures(accuracy=float(np.mean(right)), first=right[0], seconds=seconds, megabytes=megabytes)

    def _fit(self, learner: ExpertLearner, frames: Frames, *, epochs: int) -> None:
        steps = math.ceil(epochs * len(frames) / BATCH)
        fit(learner, frames, steps=steps, batch_size=BATCH, learning_rate=LEARNING_RATE, seed=self.seed)

    def _network(self, classes: int) -> ExpertLearner:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return Expert(classes=classes).build()

    def _released(self, n_subjects: int) -> Frames:
        """Return phantoms of nobody's site, drawn as widely as scanners differ, in place of a synthetic release."""
        everything = PhantomSite(name="released", style="wide", seed=9, classes=tuple(range(len(ONTOLOGY.names))))
        return everything.frames(n_subjects, seed=2 * self.seed)


def _bytes(learner: ExpertLearner) -> int:
    return sum(4 * p.numel() for p in learner.module.parameters())


def _as_asked(options: argparse.Namespace) -> str:
    shown = "".join(f" --{n} {getattr(options, n)}" for n in ("seeds", "subjects", "epochs", "arrivals"))
    return shown + (" --long" if options.long else "")


def report(
    runs: Sequence[Sequence[Mapping[str, Figures]]], weights: Sequence[Mapping[str, float]], long: Sequence[float]
) -> str:
    """Return tables of the means over `runs` of campaigns, and what was reached of the aims.

    Args:
        runs: of each seed, of each arrival, the figures of every method.
        weights: of each seed, the mean weight of an expert at its own site.
        long: of each seed, the accuracy of pooled retraining that took longer.
    """

    def mean(method: str, arrival: int, of: str) -> float:
        return float(np.mean([getattr(run[arrival][method], of) for run in runs]))

    last = len(runs[0]) - 1
    methods = list(runs[0][0])
    curve, cost = [], []
    for m in methods:
        forgotten = mean(m, last, "first") - mean(m, 0, "first")
        spread = float(np.std([run[last][m].accuracy for run in runs]))
        curve.append(
            [
                m,
                *(mean(m, t, "accuracy") for t in range(last + 1)),
                f"{spread:.3f}" if len(runs) > 1 else "-",
                f"{forgotten:+.3f}",
            ]
        )
        shares = [mean(m, t, "seconds") / mean(BOUND, t, "seconds") for t in range(last + 1)]
        bytes_moved = sum(mean(m, t, "megabytes") for t in range(last + 1))
        cost.append([m, *(f"{s:.2f}" for s in shares), mean(m, last, "seconds"), bytes_moved])
    fused = [m for m in methods if m.split(",")[0] in FUSIONS]
    legal = [m for m in methods if m not in fused and m != BOUND]
    best, rival = BEST, max(legal, key=lambda m: mean(m, last, "accuracy"))
    gain, gap = (100 * (mean(best, last, "accuracy") - mean(m, last, "accuracy")) for m in (rival, BOUND))
    alike = f"{mean(BOUND, 0, 'accuracy'):.3f} and {mean('max-logit', 0, 'accuracy'):.3f}"
    further = f" {LONGER} times as long, pooled retraining reaches {np.mean(long):.3f}." if long else ""
    dear = [t + 1 for t in range(last + 1) if mean(best, t, "seconds") > mean(BOUND, t, "seconds") / 3]
    own = ", ".join(
        f"{m} {np.mean([w[m] for w in weights]):.2f}" for m in fused if FUSIONS[m.split(",")[0]] != "nothing"
    )
    names = [f"{t + 1}: {s.name}" for t, s in enumerate(SITES[: last + 1])]
    return "\n\n".join(
        [
            f"Accuracy after each arrival, mean over patients and then over sites so far, of {len(runs)} seed(s); "
            "the spread is the standard deviation over seeds after the last; "
            "backward transfer is the accuracy at the first site after the last arrival less that "
            "after the first.",
            results.table(["method", *names, "spread", "backward transfer"], curve),
            "Seconds of training at each arrival over those of pooled retraining at the same arrival, equal epochs; "
            "seconds at the last; megabytes moved in all. For pooled retraining these are the pictures, which may not "
            f"move. An expert's own site gives it a weight of (mean; even shares would be {1 / (last + 1):.2f}): "
            + own
            + ".",
            results.table(["method", *names, "seconds at the last", "MB"], cost),
            f"Aims. The best legal baseline is {rival}; {best}, chosen on other phantoms, is {gain:+.1f} points from "
            f"it (aim: above). From pooled retraining of equal epochs it is {gap:+.1f} points (aim: -2 or better), "
            "which is no proof of closeness: equal epochs leave networks unfinished, for after the first arrival the "
            f"pooled network and the expert, which differ in the width of their heads only, reach {alike}.{further} "
            "In a third of the time of retraining: "
            + ("at every arrival." if not dear else f"not at arrivals {', '.join(map(str, dear))}."),
        ]
    )


def main() -> None:
    """Run the campaigns; print, and with --write record, what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--arrivals", type=int, default=len(SITES), choices=range(1, len(SITES) + 1))
    parser.add_argument("--long", action="store_true", help="also retrain the last network several times as long")
    parser.add_argument("--keep", type=Path, help="a folder from which a run that was stopped goes on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs, weights, long = [], [], []
    for seed in range(options.seeds):
        campaign = Campaign(seed=seed, n_subjects=options.subjects, epochs=options.epochs)
        run = campaign.recall(options.keep, options.arrivals) if options.keep else []
        for site in SITES[len(run) : options.arrivals]:
            run.append(found := campaign.arrive(site))
            if options.keep:
                campaign.keep(options.keep, found)
            print(seed, site.name, {m: f"{f.accuracy:.3f} {f.seconds:.1f}s" for m, f in found.items()}, flush=True)
        runs.append(run)
        weights.append(campaign.own_weight)
        if options.long:
            long.append(campaign.long_bound(options.keep))
    text = report(runs, weights, long)
    if options.write:
        results.write("Weighted experts", f"python -m benchmarks.experts --write{_as_asked(options)}", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
