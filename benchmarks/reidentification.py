"""Who and what is known again, and by which measure? The public embeddings beside each other, on held-out people.

Nobody here was learned from: phantoms of a site that the embedding never saw, and real patients. A pair is two pictures
of one person, and is told from pairs of two people of the same view and phase: of all, or of the hard ones, whose
ejection fraction lies within five points (phantoms: of one sex, too). Areas under the curve, equal error rates, shares
of right pairs at one false pair in a hundred and in a thousand (only of 2,000 people or more, who give a thousand
independent false pairs), and how often the nearest is the right one; 95 % intervals resample people. Copies: of 348
patients half are members, a quarter calibrate the threshold that 5 % of strangers reach, a quarter are strangers.

python -m benchmarks.reidentification [--write] [--data FOLDER] [--people N] [--seeds N]
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks import results
from cohorts.decode import read_pixels
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames, gather, resize
from cohorts.readers.manifest import Manifest
from privacy import embedding
from privacy.estimate import clopper_pearson
from privacy.identity import MEASURES, Looks, Recognition, shipped
from privacy.identity_training import Recipe, album, train
from privacy.planted import altered_copy
from privacy.planted_families import STANDARD, planted

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float32]
Taus = dict[str, float]
STRANGERS_TOLD = 0.05
MOST = 200_000  # false pairs that are looked at
SHORT = Recipe(people=(("wide", 100),), steps=120)
POSED = f"hand-made, {len(embedding.POSES)} poses"
WAYS = ("raw pixels", "hand-made", POSED, "copy head", "identity head", "rarest of three", "joint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pictures of one kind against pictures of another, whose they are, and which strangers are hard to tell apart."""

    what: str
    one: Pixels
    two: Pixels
    owner: tuple[NDArray[np.int64], NDArray[np.int64]]
    hard: NDArray[np.bool_] | None = None

    @property
    def strangers(self) -> NDArray[np.bool_]:
        """Which pairs are two people, `(n, m)`."""
        return self.owner[0][:, None] != self.owner[1][None]

    @property
    def same(self) -> NDArray[np.bool_]:
        """Which pairs are two pictures of one person, `(n, m)`."""
        itself = np.eye(len(self.one), len(self.two), dtype=bool) & (self.one is self.two)
        return ~self.strangers & ~itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """Pictures that others are compared with, embedded once."""

    looks: Looks
    raw: Matrix
    poses: Matrix

    @classmethod
    def of(cls, whole: Recognition, pixels: Pixels, *, posed: bool) -> "Bank":
        """Embed them; without `posed` the poses are left out."""
        return cls(
            looks=whole.look(pixels), raw=raw(pixels), poses=embedding.embed_poses(pixels[: posed * len(pixels)])
        )


def scores(whole: Recognition, pixels: Pixels, bank: Bank) -> dict[str, Matrix]:
    """Return the likeness `(n, m)` of pictures to those of the bank by each of `WAYS` that it allows."""
    ours, theirs = whole.look(pixels), bank.looks
    found = {
        "raw pixels": raw(pixels) @ bank.raw.T,
        "hand-made": ours["handmade"] @ theirs["handmade"].T,
        "copy head": ours["copy"] @ theirs["copy"].T,
        "identity head": ours["identity"] @ theirs["identity"].T,
        "rarest of three": whole.rarity(ours, theirs),
        "joint": joint(ours) @ joint(theirs).T,
    }
    if len(bank.poses):
        turned = np.full((len(pixels), len(bank.poses)), -1, np.float32)
        for pose in range(bank.poses.shape[1]):
            np.maximum(turned, ours["handmade"] @ bank.poses[:, pose].T, out=turned)
        found[POSED] = turned
    return {way: found[way] for way in WAYS if way in found}


def joint(looks: Looks) -> Matrix:
    """Return the three embeddings side by side: their products are the mean of the three similarities."""
    return np.concatenate([looks[name] for name in MEASURES], axis=1) / np.float32(np.sqrt(len(MEASURES)))


def raw(pixels: Pixels) -> Matrix:
    """Return pictures of 32 x 32 pixels, mean zero and norm one: their products are correlations of grey values."""
    small = np.stack([resize(p, 32, nearest=False) for p in pixels]).reshape(len(pixels), -1).astype(np.float32)
    small -= small.mean(1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


def judged(alike: Matrix, pairs: Pairs, told: NDArray[np.bool_], resamples: int) -> list[object]:
    """Return AUC, EER, both true positive rates and rank 1, with intervals, of right pairs against those `told`."""
    right, wrong = np.argwhere(pairs.same), np.argwhere(pairs.strangers & told)
    if len(wrong) > MOST:
        wrong = wrong[np.random.default_rng(1).choice(len(wrong), MOST, replace=False)]
    people = int(max(owner.max() for owner in pairs.owner)) + 1
    low, high = alike[*wrong.T], alike[*right.T]
    order = np.argsort(low, kind="stable")
    low, left, across = low[order], pairs.owner[0][wrong[order, 0]], pairs.owner[1][wrong[order, 1]]
    below, tied = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    rising = np.argsort(high, kind="stable")
    ranked = high[rising]
    whose = pairs.owner[0][right[:, 0]]
    steps = np.linspace(0, len(ranked) - 1, min(400, len(ranked))).astype(int)
    at_steps = np.searchsorted(low, ranked[steps], "left")
    before = np.searchsorted(ranked, ranked[steps], "left")
    first = pairs.same[np.arange(len(alike)), alike.argmax(1)]
    asked = pairs.same.any(1)
    rows = np.flatnonzero(asked)

    def measured(weight: NDArray[np.float64]) -> NDArray[np.float64]:
        summed = np.concatenate([[0.0], np.cumsum(weight[left] * weight[across])])
        summed /= summed[-1]
        mine = weight[whose] / weight[whose].sum()
        area = float(mine @ (summed[below] + summed[tied]) / 2)
        found = []
        for share in (0.01, 0.001):
            cut = low[min(int(np.searchsorted(summed[1:], 1 - share)), len(low) - 1)]
            found.append(float(mine @ (high > cut)))
        false = 1 - summed[at_steps]
        missed = np.concatenate([[0.0], np.cumsum(mine[rising])])[before]
        at = int(np.argmin(np.abs(false - missed)))
        mine_first = weight[pairs.owner[0][rows]]
        rank = float(mine_first @ first[rows] / mine_first.sum())
        return np.array([area, (false[at] + missed[at]) / 2, *found, rank])

    middle = measured(np.ones(people))
    rng = np.random.default_rng(0)
    drawn = [rng.multinomial(people, np.full(people, 1 / people)).astype(np.float64) for _ in range(resamples)]
    spread = np.quantile([measured(w) for w in drawn], (0.025, 0.975), axis=0) if people >= 20 else None

    def said(k: int) -> str:
        interval = "" if spread is None else f" [{spread[0, k]:.3f}, {spread[1, k]:.3f}]"
        return f"{middle[k]:.3f}{interval}"

    return [said(0), said(1), said(2), said(3) if people >= 2000 else "-", said(4)]


def of_phantoms(people: int) -> Iterator[Pairs]:
    """Yield pairs of phantoms of a site of their own."""
    seen = album(people, seed=77, style="site-c")
    whose = np.arange(people)
    near = np.abs(seen.lvef_percent[:, None] - seen.lvef_percent) <= 5
    hard = near & (seen.female[:, None] == seen.female)
    p = seen.pixels
    for what, one, two in (
        ("phantom, same clip: ED, ES", p[:, 0, 1, 0], p[:, 0, 1, 1]),
        ("phantom, same day, another clip", p[:, 0, 1, 0], p[:, 1, 1, 0]),
        ("phantom, same day, A2C, A4C", p[:, 0, 0, 0], p[:, 0, 1, 0]),
        ("phantom, another day", p[:, 0, 1, 0], p[:, 2, 1, 0]),
    ):
        yield Pairs(what=what, one=one, two=two, owner=(whose, whose), hard=hard)
    rng = np.random.default_rng(1)
    for level in (2, 3):
        copies = np.stack([altered_copy(q, level=level, rng=rng) for q in p[:, 0, 1, 0]])
        yield Pairs(what=f"phantom, copy, level {level}", one=p[:, 0, 1, 0], two=copies, owner=(whose, whose))


def camus(data: Path) -> Frames:
    """Read CAMUS; the study that is there twice counts once."""
    found = Manifest(root=str(data / "camus_224"), same_subject=(["patient0033", "patient0068"],))
    return gather(found.read(pseudonyms=Pseudonyms(b"a benchmark keeps no secret")), size=112)


def four(frames: Frames) -> NDArray[np.int64]:
    """Return the rows of A2C and A4C at ED and ES of everybody who has all, `(people, 2, 2)`."""
    at = np.full((len(frames.subjects), 2, 2), -1, np.int64)
    for row in reversed(range(len(frames))):
        if frames.view[row] in (0, 1) and frames.phase[row] in (0, 1):
            at[frames.subject[row], frames.view[row], frames.phase[row]] = row
    return at[(at >= 0).all((1, 2))]


def of_camus(frames: Frames) -> Iterator[Pairs]:
    """Yield pairs of real patients."""
    at = four(frames)
    whose = np.arange(len(at))
    lvef = frames.lvef_percent[at[:, 0, 0]]
    hard = np.abs(lvef[:, None] - lvef) <= 5
    for what, one, two in (
        ("CAMUS, same clip: A2C, ED, ES", at[:, 0, 0], at[:, 0, 1]),
        ("CAMUS, same clip: A4C, ED, ES", at[:, 1, 0], at[:, 1, 1]),
        ("CAMUS, same study: ED, A2C, A4C", at[:, 0, 0], at[:, 1, 0]),
        ("CAMUS, same study: ES, A2C, A4C", at[:, 0, 1], at[:, 1, 1]),
    ):
        yield Pairs(what=what, one=frames.pixels[one], two=frames.pixels[two], owner=(whose, whose), hard=hard)


def of_lungs(data: Path) -> Iterator[Pairs]:
    """Yield pairs of lung films: early and late in one film of everybody, and films of other places of four people."""
    with (data / "lung_us_pocus" / "labels.csv").open() as file:
        films = [row for row in csv.DictReader(file) if row["type"] == "video"]
    early, late, whose, volunteer = [], [], [], []
    for row in films:
        frames = read_pixels(data / "lung_us_pocus" / row["file"]).pixels
        for kept, frame in ((early, frames[0]), (late, frames[len(frames) * 3 // 4])):
            kept.append(resize(frame, 112, nearest=False))
        whose.append(f"{row['site']}/{row['patient_id']}")
        volunteer.append(row["site"] == "neuruppin_de")
    people, owner = np.unique(whose, return_inverse=True)
    _, once = np.unique(owner, return_index=True)
    one, two = np.stack(early), np.stack(late)
    each = np.arange(len(people))
    yield Pairs(what="lung, same clip: early, late", one=one[once], two=two[once], owner=(each, each))
    some = np.array(volunteer)
    clips = one[some]
    _, four_of_them = np.unique(owner[some], return_inverse=True)
    yield Pairs(what="lung, other clips of 4 people", one=clips, two=clips, owner=(four_of_them, four_of_them))


def table_of_pairs(whole: Recognition, every: Iterator[Pairs]) -> list[list[object]]:
    """Return a row for each kind of pair and way."""
    rows: list[list[object]] = []
    for pairs in every:
        people = len(np.unique(pairs.owner[0]))
        alike = scores(whole, pairs.one, Bank.of(whole, pairs.two, posed=people < 500))
        if pairs.one is pairs.two:
            alike = {
                way: m - 2 * np.eye(len(m), dtype=np.float32) for way, m in alike.items()
            }  # itself never comes first
        resamples = 500 if people < 500 else 200
        for way, matrix in alike.items():
            hard = ["-", "-"] if pairs.hard is None else judged(matrix, pairs, pairs.hard, resamples)[0:3:2]
            rows.append([pairs.what, people, way, *judged(matrix, pairs, np.bool_(True), resamples), *hard])
    return rows


def copies_of(pixels: Pixels, level: int) -> Iterator[tuple[str, Pixels]]:
    """Yield copies of stills at one level: everything at once, then family by family."""
    rng = np.random.default_rng(level)
    yield "all at once", np.stack([altered_copy(p, level=level, rng=rng) for p in pixels])
    for family in STANDARD:
        yield family, np.stack([planted(p[None], family=family, level=level, rng=rng)[0] for p in pixels])


def caught(whole: Recognition, frames: Frames, *, posed: bool) -> tuple[list[list[object]], dict[str, Matrix], Taus]:
    """Return the share of copies that a filter catches at 5 % of strangers told, and of fresh strangers, by way.

    Beside the rows: each way's scores of all that was asked, and its threshold.
    """
    at = np.random.default_rng(5).permutation(four(frames))
    n = len(at)
    members, calibration, fresh = at[: n // 2], at[n // 2 : 3 * n // 4], at[3 * n // 4 :]
    bank = Bank.of(whole, frames.pixels[members.reshape(-1)], posed=posed)
    best: dict[str, dict[str, Matrix]] = {}
    candidates = {"calibration": frames.pixels[calibration[:, 1, 0]], "fresh strangers": frames.pixels[fresh[:, 1, 0]]}
    for level in (2, 3):
        for family, copies in copies_of(frames.pixels[members[:, 1, 0]], level):
            candidates[f"{family}, level {level}"] = copies
    for what, pixels in candidates.items():
        best[what] = {way: m.max(1) for way, m in scores(whole, pixels, bank).items()}
    rank = int(np.ceil((len(calibration) + 1) * (1 - STRANGERS_TOLD)))
    tau = {way: float(np.sort(s)[rank - 1]) for way, s in best.pop("calibration").items()}
    rows: list[list[object]] = []
    for what, found in best.items():
        shares = [clopper_pearson(int((s >= tau[way]).sum()), len(s)) for way, s in found.items()]
        rows.append(
            [what, len(next(iter(found.values()))), *(f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in shares)]
        )
    return rows, {way: np.concatenate([found[way] for found in best.values()]) for way in tau}, tau


def agreement(frames: Frames, seeds: int) -> list[list[object]]:
    """Train the same recipe with other seeds and say how far the filters agree: of flags kappa, of scores Spearman."""
    runs = []
    calibration: Mapping[str, NDArray[np.float32]] = shipped().calibration
    for seed in range(seeds):
        weights = train(replace(SHORT, seed=seed), lambda *_: None)
        runs.append(caught(Recognition(weights=weights, calibration=calibration), frames, posed=False)[1:])
    rows: list[list[object]] = []
    for way in ("copy head", "identity head", "joint"):
        for a in range(seeds):
            for b in range(a):
                one, two = (runs[k][0][way] >= runs[k][1][way] for k in (a, b))
                chance = one.mean() * two.mean() + (1 - one.mean()) * (1 - two.mean())
                kappa = float(((one == two).mean() - chance) / max(1 - chance, 1e-9))
                rows.append([way, f"{b}, {a}", kappa, float(spearmanr(runs[a][0][way], runs[b][0][way]).statistic)])
    return rows


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="where camus_224 and others lie")
    arguments.add_argument("--people", type=int, default=300, help="phantoms; 2000 or more give a rate at 0.1 %")
    arguments.add_argument("--seeds", type=int, default=0, help="compare so many trainings instead")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    if given.seeds:
        text = f"{given.seeds} trainings, {SHORT.steps} batches on {SHORT.people[0][1]} phantoms each, two by two: "
        text += "what their filters say of the strangers and copies of CAMUS.\n\n"
        head = ["by", "seeds", "kappa of flags", "Spearman of scores"]
        text += results.table(head, agreement(camus(given.data), given.seeds))
        told("Re-identification, seeds", f" --seeds {given.seeds}", text, write=given.write)
        return
    whole = shipped()
    sources: list[Callable[[], Iterator[Pairs]]] = [lambda: of_phantoms(given.people)]
    text = " ".join(__doc__.split("\n\n")[1].split())
    head = ["pair", "people", "by", "AUC", "EER", "TPR at FPR 1 %", "TPR at FPR 0.1 %", "rank 1"]
    head += ["AUC, hard strangers", "TPR at FPR 1 %, hard"]
    if given.data.is_dir():
        frames = camus(given.data)
        sources += [lambda: of_camus(frames), lambda: of_lungs(given.data)]
    rows = [row for source in sources for row in table_of_pairs(whole, source())]
    text += f"\n\n{results.table(head, rows)}"
    if given.data.is_dir():
        text += (
            "\n\nCAMUS, share flagged at the threshold that 5 % of strangers reach, against four pictures of each of "
            f"{len(four(frames)) // 2} members:\n\n"
        )
        text += results.table(["what", "n", *WAYS], caught(whole, frames, posed=True)[0])
    told("Re-identification", f" --people {given.people}", text, write=given.write)


def told(title: str, how: str, text: str, *, write: bool) -> None:
    """Print a section, or write it."""
    if write:
        results.write(title, f"python -m benchmarks.reidentification --write{how}", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
