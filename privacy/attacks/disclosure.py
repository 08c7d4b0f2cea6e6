"""Held-out-control disclosure: does a release show members more often than people the generator never saw?

The attacker holds the release and one picture of a person, and wants to know whether that person's studies were used.
Rule, fixed before the run: a subject is disclosed when any released image reaches `threshold` in similarity
(`privacy.embedding`) to any of the subject's frames in any pose. Chance likenesses hit members and controls alike, so
only the *excess* of members is evidence (Amin et al. 2026, arXiv:2606.16952); `privacy.zero_learning` judges it.

The default threshold 0.92 comes from public data. With 1,000 images of other subjects of the same phantom site as
release, 0 to 2.8 % of subjects are matched by chance and 87 to 98 % of altered copies (`privacy.planted`, level 2) are
found; with 696 CAMUS stills (Leclerc et al. 2019) 0 % and 97 %: `python benchmarks/disclosure_threshold.py`.

Positive control: the site alters one picture of every member and counts the members whose own copy is found. That count
says what a leak of any size would have looked like, hence the power of the test at these cohorts and this noise.

Privacy: each count changes by at most one when a subject comes or goes, since a copy is held against its own subject
only and its alteration is drawn from the subject's key. A member is counted twice (disclosed, copy found), a control
once; a subject is one or the other by its own keyed lot, so the attack costs `epsilon`, not the sum over both cohorts.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import Frames
from privacy.attacks import ATTACKS
from privacy.embedding import DIMENSION, Embedding, embed, embed_poses, nearest
from privacy.mechanism import LaplacePlan
from privacy.planted import altered_copy
from privacy.randomness import SecureRandom
from privacy.zero_learning import Noise, ZeroLearning

POWER = 0.8
COPY_LEVEL = 2
_FRAMES_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DisclosureCounts:
    """What one site counted, all in subjects.

    Attributes:
        members: members audited; in the FORMAL lane those of a cohort of the declared size, for the true number,
            however it is rounded, tells at some sizes whether one patient is there.
        controls: controls audited, likewise.
        members_disclosed: members shown by the release, noised in the FORMAL lane.
        controls_disclosed: controls shown by the release, likewise.
        copies_found: members whose own altered copy was found, likewise.
        threshold: similarity at which an image shows a subject.
        formal: whether the counts carry noise.
    """

    members: int
    controls: int
    members_disclosed: int
    controls_disclosed: int
    copies_found: int
    threshold: float
    formal: bool

    def to_json(self) -> dict[str, int | float | bool]:
        """Return the counts as a JSON object of numbers; `from_json` returns it."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "DisclosureCounts":
        """Read counts of another party; raises `ValueError` for unknown keys, other types or impossible numbers."""
        types = {field.name: field.type for field in fields(cls)}
        if document.keys() != types.keys():
            raise ValueError(f"keys {sorted(document)} should be {sorted(types)}")
        for name, value in document.items():
            if type(value) is not types[name]:
                raise ValueError(f"{name}={value!r} should be of type {types[name]}")
        counts = cls(**document)
        if min(counts.members, counts.controls) < 0:
            raise ValueError(f"members={counts.members}, controls={counts.controls} must not be negative")
        of_members = (counts.members_disclosed, counts.copies_found)
        exact = all(0 <= n <= counts.members for n in of_members) and 0 <= counts.controls_disclosed <= counts.controls
        if not (counts.formal or exact):
            raise ValueError("exact counts must lie between 0 and the size of their cohort")
        return counts


@ATTACKS("disclosure")
@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """The attack and its price.

    Attributes:
        threshold: similarity at which a released image shows a subject, public, fixed before the run.
        epsilon: ε of the whole attack for any one subject, FORMAL lane.
        copies_share: part of `epsilon` spent on the positive control.
        inclusion: probability with which a subject became a member.
    """

    kind: ClassVar[str] = "counts"

    threshold: float = 0.92
    epsilon: float = 1.0
    copies_share: float = 0.2
    inclusion: float = 0.5

    def __post_init__(self) -> None:
        for name in ("threshold", "copies_share", "inclusion"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in (0, 1)")
        if not 0 < self.epsilon < float("inf"):
            raise ValueError(f"epsilon={self.epsilon} must be positive and finite")

    def plans(self) -> list[LaplacePlan]:
        """Return what a member is charged; a control is charged the sum of it for its one count."""
        return [
            LaplacePlan(purpose="disclosure.members", epsilon=self.epsilon * (1 - self.copies_share)),
            LaplacePlan(purpose="disclosure.copies", epsilon=self.epsilon * self.copies_share),
        ]

    def count(
        self,
        released: Frames,
        members: Frames,
        controls: Frames,
        *,
        random: SecureRandom,
        formal: bool,
        public_subjects: int,
    ) -> DisclosureCounts:
        """Count at the site.

        Args:
            released: the release; only its pixels are looked at.
            members: frames of the subjects that were trained on.
            controls: frames of the subjects that were not: calibration and test.
            random: source of the noise.
            formal: whether to add it, as `plans` charges it.
            public_subjects: the declared public cohort size, which a formal answer states in place of the true one.

        Raises:
            ValueError: if a subject is member and control.
        """
        if both := set(members.subjects) & set(controls.subjects):
            raise ValueError(f"{len(both)} subjects are members and controls")
        images, copies = embed(released.pixels), _copies(members)
        shown, found = _likeness(members, images, copies)
        chance, _ = _likeness(controls, images)
        counts = [int((likeness >= self.threshold).sum()) for likeness in (shown, chance, found)]
        sizes = [len(members.subjects), len(controls.subjects)]
        if formal:
            counts = [n + random.discrete_laplace(e) for n, e in zip(counts, self._epsilons(), strict=True)]
            trained = round(self.inclusion * public_subjects)
            sizes = [trained, public_subjects - trained]
        return DisclosureCounts(
            members=sizes[0],
            controls=sizes[1],
            members_disclosed=counts[0],
            controls_disclosed=counts[1],
            copies_found=counts[2],
            threshold=self.threshold,
            formal=formal,
        )

    def judge(self, counts: Sequence[DisclosureCounts]) -> dict[str, int | float | bool | None]:
        """Judge the counts of all sites together.

        Returns:
            The summed counts; `p_value` of having learnt nothing; `eps_lb`, the 95 % lower bound on ε (of pure
            differential privacy), and `eps_ceiling`, the bound if every member and no control were disclosed; the
            probability `power_1_percent`, `power_5_percent` of a positive `eps_lb` if that share of members had altered
            copies in the release; `smallest_share`, the least share (in half percents) with power 0.8, `None` without;
            `positive_control_detected`, whether 5 % would have been found with power 0.8.

        Raises:
            ValueError: if there are no counts, or they follow different rules.
        """
        if not counts:
            raise ValueError("counts is empty: no site has counted")
        if {(c.threshold, c.formal) for c in counts} != {(self.threshold, counts[0].formal)}:
            raise ValueError(f"the sites counted by different rules than threshold={self.threshold} and one lane")
        members, controls, shown, chance, found = (
            sum(getattr(c, name) for c in counts)
            for name in ("members", "controls", "members_disclosed", "controls_disclosed", "copies_found")
        )
        noises = [Noise((e,) * len(counts)) if counts[0].formal else Noise() for e in self._epsilons()]
        test = ZeroLearning(inclusion=self.inclusion, members_noise=noises[0], controls_noise=noises[1])
        phantoms = _share(chance + noises[1].quantile(0.95), controls)
        caught = _share(found - noises[2].quantile(0.95), members)

        def power(share: float) -> float:
            return test.power(share * caught, members=members, controls=controls, phantom_rate=phantoms)

        at_one, at_five = power(0.01), power(0.05)
        return {
            "members": members,
            "controls": controls,
            "members_disclosed": shown,
            "controls_disclosed": chance,
            "copies_found": found,
            "formal": counts[0].formal,
            "p_value": test.p_value(shown, chance),
            "eps_lb": test.epsilon_bound(shown, chance),
            "eps_ceiling": test.epsilon_bound(members, 0),
            "power_1_percent": at_one,
            "power_5_percent": at_five,
            "smallest_share": _least(power),
            "positive_control_detected": at_five >= POWER,
        }

    def _epsilons(self) -> tuple[float, float, float]:
        """Return ε of the counts of members, controls and copies."""
        members, copies = (plan.epsilon for plan in self.plans())
        return members, self.epsilon, copies


def _likeness(
    frames: Frames, images: Embedding, copies: Embedding | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return, per subject, the largest similarity of any pose of any frame to the images, and to the subject's copy."""
    shown = np.full(len(frames.subjects), -1.0, np.float32)
    found = shown.copy()
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        rows = slice(start, start + _FRAMES_AT_ONCE)
        owner, poses = frames.subject[rows], embed_poses(frames.pixels[rows])
        np.maximum.at(shown, owner, nearest(poses.reshape(-1, DIMENSION), images).reshape(len(owner), -1).max(axis=1))
        if copies is not None:
            np.maximum.at(found, owner, np.einsum("npd,nd->np", poses, copies[owner]).max(axis=1))
    return shown, found


def _copies(frames: Frames) -> Embedding:
    """Return the embedding of one altered picture of each subject, which nobody else's presence changes."""
    copies = np.zeros((len(frames.subjects), *frames.pixels.shape[1:]), np.uint8)
    for at, subject in enumerate(frames.subjects):
        own = np.flatnonzero(frames.subject == at)
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(subject.encode()).digest()))
        if len(own):
            copies[at] = altered_copy(frames.pixels[rng.choice(own)], level=COPY_LEVEL, rng=rng)
    return embed(copies)


def _share(hits: int, n: int) -> float:
    return min(1.0, max(0.0, hits / n)) if n else 0.0


def _least(power: Callable[[float], float]) -> float | None:
    """Return the least share, in half percents, with enough power; power grows with the share."""
    most = next((share for share in (1, 2, 4, 8, 16, 32, 64, 128, 200) if power(share / 200) >= POWER), None)
    if most is None:
        return None
    return (most // 2 + 1 + bisect_left(range(most // 2 + 1, most), POWER, key=lambda share: power(share / 200))) / 200
