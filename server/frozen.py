"""Experts on disk: what a stage freezes is read back by its digest, and by every later stage with the same one."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from learning import arrays, durable
from learning.experts import FrozenExpert
from learning.learners.expert import Expert
from learning.ontology import from_json, to_json
from learning.schema import canonical
from server.campaign import State
from server.failure import CampaignChanged

EXPERT, RECORD, MEAN, SPREAD = "expert.safetensors", "expert.json", "_mean", "_spread"


def write(folder: Path, expert: FrozenExpert, *, older: dict[str, str]) -> None:
    """Write an expert, its words and its digest, beside the digests of those that were there before it."""
    arrays.write(folder / EXPERT, {**expert.arrays, MEAN: expert.mean, SPREAD: expert.spread})
    site = expert.label_map.site
    told = {
        "site": site,
        "words": to_json([expert.label_map]),
        "config": asdict(expert.config),
        "digests": {**older, site: expert.digest},
    }
    durable.write(folder / RECORD, canonical(told).encode())


def read(folder: Path) -> tuple[FrozenExpert, dict[str, str]]:
    """Return an expert and the digests, by site, that stood when it was frozen.

    Raises:
        CampaignChanged: if the folder holds none, or its bytes are not those of its digest; names the file.
    """
    try:
        told = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        named = {n: a.astype("float32") for n, a in arrays.read(folder / EXPERT).items()}
        (words,) = from_json(told["words"])
        mean, spread = named.pop(MEAN), named.pop(SPREAD)
        config = Expert(**told["config"])
        found = FrozenExpert(label_map=words, config=config, arrays=named, mean=mean, spread=spread)
        digests = {str(site): str(digest) for site, digest in told["digests"].items()}
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise CampaignChanged(f"{folder} holds no expert: {error}") from error
    if found.digest != digests.get(words.site):
        raise CampaignChanged(f"{folder / EXPERT} was changed after the expert of {words.site} was frozen")
    return found, digests


def unchanged(state: State, stages: Iterable[str]) -> list[FrozenExpert]:
    """Return the experts of `stages`; raises `CampaignChanged` naming one that is not as later ones saw it."""
    found, digests = [], dict[str, str]()
    for stage in stages:
        expert, then = read(state.output(stage, EXPERT).parent)
        for site, digest in then.items():
            if digests.setdefault(site, digest) != digest:
                raise CampaignChanged(f"the expert of {site} is another than the one that {stage!r} joined")
        found.append(expert)
    return found


def digests(experts: Iterable[FrozenExpert]) -> dict[str, str]:
    """Return site → digest."""
    return {expert.label_map.site: expert.digest for expert in experts}
