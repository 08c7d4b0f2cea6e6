"""The site's side of secure aggregation: its change leaves under masks, and it opens the sum once (`learning.masked`).

The coordinator carries every message and is trusted with none. Names and signing keys are those of the site's own
roster; the numbers of sites keep the bounds of its own policy; keys are fresh for every try, signed for that try alone;
and for each other site it opens the share of the own mask or that of the key, never both, for it opens one sum of an
exchange and no other. `masking/<run>/<stage>/<round>.json` holds its secrets until then.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from client import training
from client.admission import admitted
from client.site import Site
from evaluation.trust import SITE, TrustedKey
from learning import durable, masked, wire
from learning.masked import PAIR_BYTES, SEALED_BYTES, Offer, Session
from learning.messages import Code, Keys, Masked, MaskedTrain, Parts, Refusal, Share, Train, Unmask
from learning.schema import canonical
from privacy import masks, shamir
from privacy.randomness import SecureRandom

State = dict[str, Any]


def offer(site: Site, request: Keys) -> Parts:
    """Make fresh secrets for a try, and offer what belongs to them; refused for a sum that was opened already."""
    admitted(site, request.run)
    if site.name not in site.policy.secure_aggregation.roster:
        _refuse("site.yaml names no roster with this site: it takes part in no secure aggregation")
    session = _session(request)

    def compute() -> Parts:
        state = _read(site, session)
        if site.outbox.answered(request.run, _opening(session)):
            _refuse(f"exchange {request.round} of stage {request.stage!r} was opened; no other sum of it is begun")
        if state.get("attempt", 0) > request.attempt:
            _refuse(f"attempt={request.attempt} is past: attempt {state['attempt']} was begun")
        if state.get("attempt") != request.attempt:
            random = SecureRandom()
            drawn = {part: random.bytes(masks.SEED_BYTES).hex() for part in ("seed", "mask", "seal")}
            state = {"attempt": request.attempt, **drawn}
            _write(site, session, state)
        return Parts(parts=_own(site, session, state).raw)

    return site.outbox.answer(request, request.run, _key("keys", session), Parts, compute)


def share(site: Site, request: Share) -> Parts:
    """Seal shares of this site's secrets to the others, if they are all on the roster and as many as they must be."""
    session = _session(request)

    def compute() -> Parts:
        state, names = _now(site, session), _names(request.sites)
        try:
            raw = masked.blocks(request.offers, masked.OFFER_BYTES, names)
        except ValueError as error:
            raise Refusal(Code.UNREADABLE, str(error)) from error
        offers = {name: Offer.read(part) for name, part in raw.items()}
        _trust(site, session, offers, request.threshold)
        if offers.get(site.name) != _own(site, session, state):
            _refuse("the offers do not hold this site's own, as it made it")
        random = SecureRandom()
        parts = [
            shamir.split(bytes.fromhex(state[part]), threshold=request.threshold, shares=len(names), random=random)
            for part in ("seed", "mask")
        ]
        mine = {name: parts[0][at] + parts[1][at] for at, name in enumerate(names)}
        circled = masked.circle(session, request.threshold, offers)
        state |= {
            "threshold": request.threshold, "offers": {name: offers[name].raw.hex() for name in names},
            "held": {site.name: mine[site.name].hex()},
        }  # fmt: skip
        _write(site, session, state)
        sealed = b""
        for name in names:
            if name != site.name:
                key, nonce = _seal_key(site, state, offers, circled, site.name, name), random.bytes(12)
                sealed += nonce + ChaCha20Poly1305(key).encrypt(nonce, mine[name], circled)
        return Parts(parts=sealed)

    return site.outbox.answer(request, request.run, _key("shares", session), Parts, compute)


def mask(site: Site, request: MaskedTrain) -> Masked:
    """Train, and answer the change under this site's own mask and one with every other site that shared."""
    asked = Train(**{field.name: getattr(request, field.name) for field in fields(Train)})
    session = _session(request)
    _sharers(site, session, _now(site, session), request)  # refused before anything is charged
    change = training.changed(site, asked)

    def compute() -> Masked:
        state = _now(site, session)
        state["held"], state["sharers"] = _sharers(site, session, state, request), list(request.sharers)
        _write(site, session, state)
        offers, circled = _circle(session, state)
        hidden = masks.encode(change.arrays)
        masks.blind(hidden, bytes.fromhex(state["seed"]), add=True)
        private, told = bytes.fromhex(state["mask"]), wire.digest(asked)
        for peer in request.sharers:
            if peer != site.name:
                seed = masked.pair_seed(private, offers[peer].mask, circled, told, site.name, peer)
                masks.blind(hidden, seed, add=site.name < peer)
        return Masked(arrays=hidden)

    return site.outbox.answer(request, request.run, _key("masked", session), Masked, compute)


def unmask(site: Site, request: Unmask) -> Parts:
    """Open the sum of the survivors: one share for each sharer, of one secret or the other; once for an exchange."""
    session = _session(request)

    def compute() -> Parts:
        state, survivors = _now(site, session), _names(request.survivors)
        sharers = state.get("sharers")
        if sharers is None:
            _refuse("this site has sent nothing that could be opened")
        if strangers := sorted(set(survivors) - set(sharers)):
            _refuse(f"{strangers[0]!r} is in the sum, but never shared")
        if site.name not in survivors:
            _refuse("the sum is one without this site, which it does not open")
        _enough(site, len(survivors), state["threshold"], "in the sum")
        held = {name: bytes.fromhex(pair) for name, pair in state["held"].items()}
        at = shamir.SHARE_BYTES
        return Parts(parts=b"".join(held[n][:at] if n in survivors else held[n][at:] for n in sharers))

    reply = site.outbox.answer(request, request.run, _opening(session), Parts, compute)
    _path(site, session).unlink(missing_ok=True)  # whoever breaks in later finds no mask to take off
    return reply


def _trust(site: Site, session: Session, offers: Mapping[str, Offer], threshold: int) -> None:
    """Raise `Refusal` unless these offers are of hospitals on the roster, each signed for this try, no key twice."""
    roster = site.policy.secure_aggregation.roster
    for name, made in offers.items():
        if name not in roster:
            _refuse(f"{name!r} is not on the roster of this site")
        key = TrustedKey(name=name, role=SITE, public_key=roster[name])
        if not key.verifies(made.signature, masked.to_sign(session, name, made.mask, made.seal, made.commitment)):
            _refuse(f"the keys of {name!r} are not signed for this try by the key on the roster of this site")
    if len({key for made in offers.values() for key in (made.mask, made.seal)}) != 2 * len(offers):
        _refuse("two of the offered keys are one")
    least = site.policy.secure_aggregation.min_sites
    if not max(masked.MIN_SITES, least) <= len(offers) <= masks.MOST_SITES:
        _refuse(f"{len(offers)} sites would begin; this site asks for {least} to {masks.MOST_SITES}")
    lowest = max(masked.least_threshold(len(offers)), site.policy.secure_aggregation.threshold)
    if not lowest <= threshold <= len(offers):
        _refuse(f"threshold={threshold} of {len(offers)} sites must be in {lowest}..{len(offers)}")


def _sharers(site: Site, session: Session, state: State, request: MaskedTrain) -> dict[str, str]:
    """Return what this site holds of the secrets of everybody who shared, its own included, in hexadecimal."""
    if "offers" not in state:
        _refuse("this site has shared nothing of this try")
    sharers, (offers, circled) = _names(request.sharers), _circle(session, state)
    if strangers := sorted(set(sharers) - set(offers)):
        _refuse(f"{strangers[0]!r} shared, but offered no keys")
    if site.name not in sharers:
        _refuse("this site is not among those who shared")
    _enough(site, len(sharers), state["threshold"], "sharing")
    held = {site.name: state["held"][site.name]}
    try:
        sealed = masked.blocks(request.sealed, SEALED_BYTES, [name for name in sharers if name != site.name])
    except ValueError as error:
        raise Refusal(Code.UNREADABLE, str(error)) from error
    for name, part in sealed.items():
        key = _seal_key(site, state, offers, circled, name, site.name)
        try:
            pair = ChaCha20Poly1305(key).decrypt(part[:12], part[12:], circled)
        except InvalidTag as error:
            raise Refusal(Code.REFUSED_POLICY, f"what came as shares of {name!r} was not sealed by it") from error
        if len(pair) != PAIR_BYTES:
            _refuse(f"what {name!r} sealed are no shares")
        held[name] = pair.hex()
    return held


def _enough(site: Site, sites: int, threshold: int, what: str) -> None:
    least = max(threshold, site.policy.secure_aggregation.threshold)
    if sites < least:
        _refuse(f"{sites} sites are {what}, at least {least} must be")


def _names(told: Sequence[str]) -> list[str]:
    """Return names as they are, if each is there once and in order."""
    names = list(told)
    if any(not isinstance(name, str) for name in names) or names != sorted(set(names)):
        raise Refusal(Code.UNREADABLE, "names of sites must be different and in order")
    return names


def _own(site: Site, session: Session, state: State) -> Offer:
    public = {part: masked.public_of(bytes.fromhex(state[part])) for part in ("mask", "seal")}
    committed = masked.commitment(session, site.name, bytes.fromhex(state["seed"]))
    signed = site.signing_key.sign(masked.to_sign(session, site.name, public["mask"], public["seal"], committed))
    return Offer(mask=public["mask"], seal=public["seal"], commitment=committed, signature=signed)


def _circle(session: Session, state: State) -> tuple[dict[str, Offer], bytes]:
    offers = {name: Offer.read(bytes.fromhex(raw)) for name, raw in state["offers"].items()}
    return offers, masked.circle(session, state["threshold"], offers)


def _seal_key(
    site: Site, state: State, offers: Mapping[str, Offer], circled: bytes, sender: str, receiver: str
) -> bytes:
    peer = sender if receiver == site.name else receiver
    try:
        return masked.seal_key(bytes.fromhex(state["seal"]), offers[peer].seal, circled, sender, receiver)
    except ValueError as error:
        raise Refusal(Code.REFUSED_POLICY, f"the key of {peer!r} is a weak point of the curve") from error


def _session(request: Keys | Share | MaskedTrain | Unmask) -> Session:
    return Session(run=request.run, stage=request.stage, round=request.round, attempt=request.attempt)


def _key(step: str, session: Session) -> str:
    return f"{step}.{session.stage}.{session.round}.{session.attempt}"


def _opening(session: Session) -> str:
    """The one answer of an exchange that opens a sum, whichever the try was."""
    return f"unmask.{session.stage}.{session.round}"


def _now(site: Site, session: Session) -> State:
    """Return the secrets of the try that is going on; raises `Refusal` for every other."""
    state = _read(site, session)
    if state.get("attempt") != session.attempt:
        _refuse(f"attempt={session.attempt} at exchange {session.round} is not the one that is going on here")
    return state


def _read(site: Site, session: Session) -> State:
    path = _path(site, session)
    found: State = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _write(site: Site, session: Session, state: State) -> None:
    path = _path(site, session)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    durable.write(path, canonical(state).encode())


def _path(site: Site, session: Session) -> Path:
    return site.folder / training.MASKING / session.run / session.stage / f"{session.round}.json"


def _refuse(words: str) -> NoReturn:
    raise Refusal(Code.REFUSED_POLICY, words)
