"""The filter that keeps its promise: patients vote against candidates, and noise covers every ballot.

An exact filter drops a candidate because one patient stands near it, so its holes say who was there
(`privacy.reidentification`). Here each patient casts at most w votes, each against the nearest candidate within τ, and
a candidate stays where its votes plus discrete Laplace noise of scale w/ε stay below t. One patient moves the counts by
at most w in L1, however many candidates and clips there are, so all verdicts of a site together cost ε once.

What no such filter can do: whatever ε-private rule keeps a stranger's candidate with probability 1 - β keeps a copy
with at least e^(-ε) of that (`catch_bound`). Among what is released, copies of one vote's patient become rarer by the
factor e^(-ε/w) (`prevalence_factor`) and by no more; discrete Laplace noise reaches that bound at every integer t.
Synthetic hearts are cheap: ask for many more than needed, at a β near one half or above (`candidates_needed`).

A candidate is a synthetic *subject* with all its pictures, and falls whole. τ is a similarity, public, fixed before the
candidates were drawn: cosine of an angle, so that "twice as far" is 2τ² - 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.embedding import Embedding
from privacy.mechanism import LaplacePlan
from privacy.randomness import SecureRandom

_BLOCK = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteFilter:
    """The noisy verdicts of one site and their price.

    Attributes:
        epsilon: ε of all verdicts of the site together, for any one patient.
        threshold: t; a candidate is kept where votes + noise < t. At t = 1 a stranger's candidate falls with β =
            1/(1 + e^(ε/w)), at t ≤ 0 with more.
        votes: w, the most votes a patient casts: one, or one in each of w strata.
    """

    epsilon: float = 1.0
    threshold: int = 0
    votes: int = 1

    def __post_init__(self) -> None:
        _require_epsilon(self.epsilon)
        if self.votes < 1:
            raise ValueError(f"votes={self.votes} must be at least 1")

    def plan(self) -> LaplacePlan:
        """Return what every patient of the site is charged, once for all candidates."""
        return LaplacePlan(purpose="filter.votes", epsilon=self.epsilon)

    def accept(self, counts: NDArray[np.int64], random: SecureRandom) -> NDArray[np.bool_]:
        """Say which candidates are kept: `counts` of `ballots` plus fresh noise, each below t; `(candidates,)`."""
        noise = [random.discrete_laplace(self.epsilon, sensitivity=self.votes) for _ in range(len(counts))]
        kept: NDArray[np.bool_] = counts + np.array(noise, np.int64) < self.threshold
        return kept

    def acceptance(self, votes: int = 0) -> float:
        """Return the probability that a candidate with so many `votes` is kept; of a stranger's, 1 - β, with none."""
        a, margin = math.exp(-self.epsilon / self.votes), self.threshold - votes
        return a ** (1 - margin) / (1 + a) if margin <= 0 else 1 - a**margin / (1 + a)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How many patients have a candidate within τ, noised: sees systematic memorisation, not a single copy.

    Attributes:
        epsilon: ε of the count for any one subject: a member is in one count, a control in the other, nobody in both.
    """

    epsilon: float = 0.5

    def __post_init__(self) -> None:
        _require_epsilon(self.epsilon)

    def plan(self) -> LaplacePlan:
        """Return what every subject is charged."""
        return LaplacePlan(purpose="gate.touched", epsilon=self.epsilon)

    def release(self, touched: int, random: SecureRandom) -> int:
        """Return the count of `touched` with discrete Laplace noise of scale 1/ε."""
        return touched + random.discrete_laplace(self.epsilon)

    def spread(self) -> float:
        """Return the standard deviation of the noise in subjects; 2.8 at ε = 0.5."""
        a = math.exp(-self.epsilon)
        return math.sqrt(2 * a) / (1 - a)


def spread(candidates: Embedding, candidate: NDArray[np.int64], *, tau: float) -> NDArray[np.bool_]:
    """Say which candidates to keep so that no picture of a patient has two of them within τ; post-processing.

    Greedy, in the order of the candidates: one stays where each of its pictures lies more than twice the angle of τ
    from all pictures of those kept before it, similarity below 2τ² - 1. Two within τ of one picture would be closer.

    Args:
        candidates: pictures, `(pictures, d)`.
        candidate: the candidate that each picture is of, `(pictures,)`, from 0.
        tau: similarity in (0, 1).

    Returns:
        `(candidates,)`; a candidate without a picture stays.
    """
    near = 2 * _require_tau(tau) ** 2 - 1
    n = _count(candidate, len(candidates), "candidate")
    unit = candidates / _lengths(candidates)[:, None]
    keep = np.ones(n, bool)
    held = np.empty_like(unit)
    filled = 0
    for one in range(n):
        own = unit[candidate == one]
        keep[one] = not len(own) or not filled or bool((own @ held[:filled].T).max() < near)
        if keep[one]:
            held[filled : filled + len(own)] = own
            filled += len(own)
    return keep


def ballots(
    patients: Embedding,
    patient: NDArray[np.int64],
    candidates: Embedding,
    candidate: NDArray[np.int64],
    *,
    tau: float,
    stratum: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Count the votes against each candidate: per patient (and stratum) one, against the nearest, if it is within τ.

    One patient more or less changes the counts by at most one vote a stratum in L1.

    Args:
        patients: pictures of patients, also turned and moved (`embed_poses` as rows), `(rows, d)`.
        patient: the patient of each row, `(rows,)`.
        candidates: pictures of candidates, `(pictures, d)`.
        candidate: the candidate of each picture, `(pictures,)`, from 0.
        tau: similarity in (0, 1).
        stratum: of each row, `(rows,)`, 0 to w - 1, for example its view; one vote in each. `None` is one vote in all.

    Returns:
        `(candidates,)`, from 0 to the number of patients times w.
    """
    _require_tau(tau)
    n = _count(candidate, len(candidates), "candidate")
    strata = np.zeros(len(patients), np.int64) if stratum is None else stratum
    if not len(patients) == len(patient) == len(strata):
        raise ValueError(f"patients has {len(patients)} rows, patient {len(patient)}, stratum {len(strata)}")
    likeness, at = nearest_of(patients, candidates)
    voting = np.flatnonzero(likeness >= tau)
    # Of the rows of one patient and stratum, the likest first: it casts the vote.
    order = voting[np.lexsort((at[voting], -likeness[voting], strata[voting], patient[voting]))]
    voter = np.stack([patient[order], strata[order]])
    first = np.ones(len(order), bool)
    first[1:] = (voter[:, 1:] != voter[:, :-1]).any(axis=0)
    return np.bincount(candidate[at[order[first]]], minlength=n).astype(np.int64)


def touched(patients: Embedding, patient: NDArray[np.int64], candidates: Embedding, *, tau: float) -> int:
    """Count the patients with a picture of any candidate within τ; one patient changes it by at most one."""
    _require_tau(tau)
    likeness, _ = nearest_of(patients, candidates)
    return len(np.unique(patient[likeness >= tau]))


def everywhere(verdicts: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return what every site keeps. The whole factor of each site holds for its patients; sums of votes would lose it.

    Raises:
        ValueError: if no site has answered, or the sites answered about different numbers of candidates.
    """
    if not verdicts or len({len(v) for v in verdicts}) > 1:
        raise ValueError(f"verdicts of {len(verdicts)} sites about {sorted({len(v) for v in verdicts})} candidates")
    kept: NDArray[np.bool_] = np.logical_and.reduce(list(verdicts))
    return kept


def prevalence_factor(epsilon: float, votes: int = 1) -> float:
    """Return the factor by which copies of one patient become rarer among what is released, e^(-ε/w)."""
    return math.exp(-_require_epsilon(epsilon) / votes)


def catch_bound(epsilon: float, beta: float, delta: float = 0.0) -> float:
    """Return the most copies an (ε, δ)-private filter can catch that drops the share `beta` of strangers' candidates.

    min(e^ε β + δ, 1 - (1 - β - δ) e^(-ε)): both outcomes of one candidate obey the two inequalities of privacy.
    """
    _require_epsilon(epsilon)
    for name, value in (("beta", beta), ("delta", delta)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} must lie in [0, 1]")
    return min(1.0, math.exp(epsilon) * beta + delta, 1 - max(0.0, 1 - beta - delta) * math.exp(-epsilon))


def candidates_needed(wanted: int, acceptance: float, *, sites: int = 1) -> int:
    """Return how many candidates leave `wanted` on average where each of `sites` keeps the share `acceptance`."""
    if not 0 < acceptance <= 1:
        raise ValueError(f"acceptance={acceptance} must lie in (0, 1]")
    return math.ceil(wanted / acceptance**sites)


def nearest_of(queries: Embedding, references: Embedding) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return for each query the largest cosine to any reference and the first that has it; -1 and 0 without any.

    Cosine of the angle, not the product of `privacy.embedding.nearest`: rounded embeddings have norms near one only.
    """
    likeness = np.full(len(queries), -1.0, np.float32)
    at = np.zeros(len(queries), np.int64)
    longs, lengths = _lengths(queries), _lengths(references)
    for start in range(0, len(queries), _BLOCK):
        mine = slice(start, start + _BLOCK)
        for first in range(0, len(references), _BLOCK):
            others = slice(first, first + _BLOCK)
            # The product of rounded embeddings is exact; dividing afterwards keeps it free of blocks and batches.
            found = queries[mine] @ references[others].T / lengths[others]
            best = found.argmax(axis=1)
            value = np.take_along_axis(found, best[:, None], axis=1)[:, 0] / longs[mine]
            closer = value > likeness[mine]
            likeness[mine] = np.where(closer, value, likeness[mine])
            at[mine] = np.where(closer, first + best, at[mine])
    return likeness, at


def _lengths(rows: Embedding) -> NDArray[np.float32]:
    """Return norms, one for what is all zero: its similarity is zero to everything."""
    if not np.isfinite(rows).all():
        raise ValueError("an embedding holds values that are not finite")
    norm = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return np.where(norm > 0, norm, np.float32(1))


def _count(owner: NDArray[np.int64], rows: int, name: str) -> int:
    if len(owner) != rows or (rows and owner.min() < 0):
        raise ValueError(f"{name} names {len(owner)} owners of {rows} rows, none below 0")
    return int(owner.max()) + 1 if rows else 0


def _require_tau(tau: float) -> float:
    if not 0 < tau < 1:
        raise ValueError(f"tau={tau} must lie in (0, 1)")
    return tau


def _require_epsilon(epsilon: float) -> float:
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon={epsilon} must be positive and finite")
    return epsilon
