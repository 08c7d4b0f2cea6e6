"""Decoys of a campaign: made-up patients whom every site adds to its own, some of whom a candidate is a copy of.

The other way round than an auditor would who owned pictures of his own: a candidate must be what the generator draws,
so it is the decoys that are copied from candidates, by a secret lot, and the candidates copied are given up. A site
that screens refuses them, and hardly any other; all of it is public, so it costs no privacy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom.simulate import stills
from privacy.decoys import Answers, Conduct, copied
from privacy.embedding import embed, embed_poses
from privacy.planted import altered_copy
from privacy.randomness import SecureRandom
from privacy.votes import VoteFilter

LEVEL = 2  # of alteration, all kinds at once (`privacy.planted`), where τ is known; else the bytes themselves
SURELY = 0.98  # no exact filter keeps what is as alike, whatever its calibration says
MOST_REFUSED = 0.5  # share of strangers that an exact filter of any use refuses (privacy.md 2.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoys:
    """What every site is handed, and what only the coordinator knows of it.

    Attributes:
        pixels: one picture of each decoy, `(decoys, size, size)`.
        marked: places, among the candidates asked about, of those that a decoy is a copy of, ascending.
        catch: share of the marked that an honest site refuses at least.
    """

    pixels: NDArray[np.uint8]
    marked: NDArray[np.int64]
    catch: float

    def answers(self, kept: NDArray[np.bool_], rule: Mapping[str, Any]) -> dict[str, Any]:
        """Return what one site's verdicts say of that site: counts, and its conduct."""
        strangers = np.delete(kept, self.marked)
        found = Answers(
            kept=strangers,
            copies=len(self.marked),
            caught=int((~kept[self.marked]).sum()),
            probes=len(strangers),
            refused=int((~strangers).sum()),
        )
        refused = 1 - VoteFilter(**rule["votes"]).acceptance() if "votes" in rule else MOST_REFUSED
        conduct = found.conduct(catch=self.catch, false_rejection=refused)
        return {
            "n": found.copies,
            "caught": found.caught,
            "probes": found.probes,
            "refused": found.refused if "votes" in rule else _rounded(found.refused, found.probes),
            "honest": None if conduct is Conduct.UNDECIDED else conduct is Conduct.HONEST,
        }


def _rounded(n: int, of: int) -> int:
    """Return a number that exact verdicts gave in steps of five percent."""
    return round(round(20 * n / of) * of / 20) if of else 0


def plant(candidates: NDArray[np.uint8], n: int, rule: Mapping[str, Any], *, random: SecureRandom) -> Decoys:
    """Return `n` decoys, half of them altered copies of candidates by a secret lot, the rest phantoms of no candidate.

    Args:
        candidates: pictures `(candidates, pictures of each, size, size)`.
        n: decoys; at most a quarter of the candidates are given up for them.
        rule: by which sites judge.
        random: of the lot.
    """
    size = candidates.shape[-1]
    dice = np.random.default_rng(int.from_bytes(random.bytes(16)))
    is_copy = copied(min(n, len(candidates) // 2), random=random)
    marked = np.sort(dice.permutation(len(candidates))[: int(is_copy.sum())])
    shown = candidates[marked, dice.integers(0, candidates.shape[1], len(marked))]
    copies = [altered_copy(picture, level=LEVEL, rng=dice) for picture in shown] if "votes" in rule else list(shown)
    pixels = np.zeros((len(is_copy), size, size), np.uint8)
    if len(is_copy):
        strangers = stills(len(is_copy), seed=int(dice.integers(2**31)), size=size)
        pixels[:] = strangers.pixels[:: len(strangers) // len(is_copy)][: len(is_copy)]  # one picture of each
        pixels[is_copy] = np.array(copies, np.uint8).reshape(-1, size, size)
    return Decoys(pixels=pixels, marked=marked, catch=_catch(np.array(copies), shown, rule))


def _catch(copies: NDArray[np.uint8], shown: NDArray[np.uint8], rule: Mapping[str, Any]) -> float:
    """Return the expected share of copies refused: those within τ by the vote of their decoy, the rest by chance."""
    if not len(copies):
        return 0.0
    alike = np.einsum("npd,nd->np", embed_poses(copies), embed(shown)).max(1)
    if "votes" not in rule:
        return float((alike >= SURELY).mean())
    sieve = VoteFilter(**rule["votes"])
    within = float((alike >= rule["tau"]).mean())
    return within * (1 - sieve.acceptance(1)) + (1 - within) * (1 - sieve.acceptance())
