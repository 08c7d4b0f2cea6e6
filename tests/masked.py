"""Hospitals that know each other's keys, and a coordinator that plays secure aggregation by hand, honest or not."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client import training
from client.policy import SecureAggregation
from client.site import SIGNING, Site
from evaluation.trust import SigningKey
from learning.masked import SEALED_BYTES, Offer, Session, blocks, to_sign
from learning.messages import Keys, Masked, MaskedTrain, Parts, Share, Train, Trained, Unmask
from tests.hospitals import NAMES, Wire, hospital, train_request

FIVE = (*NAMES, "draco", "eridanus")


def acquainted(
    root: Path,
    names: Sequence[str] = NAMES,
    *,
    cohort: Mapping[str, Any] | None = None,
    approval: bool = False,
    **bounds: Any,
) -> list[Site]:
    """Make hospitals over such cohorts, each of which has all others on its roster."""
    roster = {}
    for name in names:
        path = root / name / "secrets" / SIGNING
        path.parent.mkdir(parents=True)
        SigningKey.create().write(path)
        roster[name] = base64.b64encode(SigningKey.read(path).public).decode()
    told, more = SecureAggregation(roster=roster, **bounds), {"approval": True} if approval else {}
    return [
        hospital(root, name, cohort={**(cohort or {"reader": "canary"}), "seed": seed}, secure_aggregation=told, **more)
        for seed, name in enumerate(names)
    ]


def changing(patch: pytest.MonkeyPatch, changes: Mapping[str, Mapping[str, NDArray[np.float32]]]) -> None:
    """Let sites change what they are told to, without a training, in any run."""
    patch.setattr(training, "changed", lambda site, request: Trained(arrays=dict(changes[site.name])))
    patch.setattr("client.masking.admitted", lambda site, run: None)


def honest(site: Site, key: SigningKey, offer: Offer, session: Session) -> Offer:
    """Sign the keys of `offer` for a session as the hospital with this key would."""
    signed = key.sign(to_sign(session, site.name, offer.mask, offer.seal, offer.commitment))
    return Offer(mask=offer.mask, seal=offer.seal, commitment=offer.commitment, signature=signed)


class Play:
    """The coordinator's part, message by message; every step may be told to lie by keywords."""

    def __init__(self, sites: Sequence[Site], **place: Any) -> None:
        self.sites, self.wire = {site.name: site for site in sites}, Wire(*sites)
        self.names = sorted(self.sites)
        self.place: dict[str, Any] = {"run": "run-1", "stage": "views", "round": 1, "attempt": 1} | place

    def ask(self, request: object, name: str) -> Any:
        return self.wire.ask(request, list(self.sites).index(name))

    def offers(self) -> dict[str, bytes]:
        return {name: self.read(Parts, self.ask(Keys(**self.place), name)).parts for name in self.names}

    def share(self, name: str, offers: Mapping[str, bytes], **lies: Any) -> Any:
        names = sorted(offers)
        told = {"threshold": 2, "sites": names, "offers": b"".join(offers[n] for n in names)} | lies
        return self.ask(Share(**self.place, **told), name)

    def train(self, name: str, sealed: Mapping[str, bytes], names: Sequence[str], **lies: Any) -> Any:
        """Ask for the masked change; `sealed` is what each sharer sealed for all others in the order of `names`."""
        cut = {s: blocks(raw, SEALED_BYTES, [n for n in names if n != s]) for s, raw in sorted(sealed.items())}
        own = b"".join(parts[name] for sender, parts in cut.items() if sender != name)
        told = plain(train_request(**{k: v for k, v in self.place.items() if k != "attempt"}))
        more = {"attempt": self.place["attempt"], "sharers": sorted(sealed), "sealed": own}
        return self.ask(MaskedTrain(**{**told, **more, **lies}), name)

    def unmask(self, name: str, survivors: Sequence[str]) -> Any:
        return self.ask(Unmask(**self.place, survivors=list(survivors)), name)

    def until_shared(self) -> dict[str, bytes]:
        offers = self.offers()
        return {name: self.read(Parts, self.share(name, offers)).parts for name in self.names}

    def until_masked(self) -> dict[str, dict[str, NDArray[np.uint64]]]:
        sealed = self.until_shared()
        return {n: dict(self.read(Masked, self.train(n, sealed, self.names)).arrays) for n in self.names}

    @staticmethod
    def read(kind: type[Any], reply: Any) -> Any:
        assert isinstance(reply, kind), reply
        return reply


def plain(request: Train) -> dict[str, Any]:
    return {name: getattr(request, name) for name in Train.__dataclass_fields__}
