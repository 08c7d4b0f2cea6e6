"""A hospital under secure aggregation: known answers of what it computes with, and every lie that it refuses."""

import base64
import dataclasses
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.policy import SecureAggregation
from evaluation.trust import SigningKey
from learning import masked
from learning.masked import Offer, Session
from learning.messages import Code, Keys, Parts
from privacy import masks, shamir
from privacy.randomness import SecureRandom
from tests.hospitals import PLAN, Wire, hospital, reserve_request, train_request
from tests.masked import FIVE, Play, acquainted, changing, honest

CHANGE = {"w": np.array([0.25, -1.5, 3.0], np.float32), "b": np.array([[2.0**-20]], np.float32)}


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    changing(monkeypatch, dict.fromkeys(FIVE, CHANGE))
    return Play(acquainted(tmp_path))


# What it computes with


def test_a_mask_is_the_key_stream_of_aes_256_in_counter_mode() -> None:
    """The zero key: blocks 0, 1 and 2 are H, tag 13 and ciphertext 14 of McGrew and Viega's test cases of GCM."""
    numbers = {"b": np.zeros(2, np.uint64), "a": np.zeros((2, 2), np.uint64)}
    masks.blind(numbers, bytes(32), add=True)
    stream = numbers["a"].astype("<u8").tobytes() + numbers["b"].astype("<u8").tobytes()
    blocks = "dc95c078a2408989ad48a21492842087", "530f8afbc74536b9a963b4f1c4cb738b", "cea7403d4d606b6e074ec5d3baf39d18"
    assert stream.hex() == "".join(blocks)


def test_seeds_are_derived_as_rfc_5869_says() -> None:
    okm = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"  # its test case 3, first 32 bytes
    assert masks.derive(b"\x0b" * 22, b"").hex() == okm


def test_two_keys_agree_as_rfc_7748_says() -> None:
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")  # section 6.1
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert masked.agreed(bob, alice).hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_shares_are_values_of_a_polynomial_whose_constant_is_the_secret() -> None:
    class Five(SecureRandom):
        def bytes(self, n: int) -> bytes:
            return (5 << 7).to_bytes(n, "big")

    secret = (1000).to_bytes(32, "big")
    shares = shamir.split(secret, threshold=3, shares=4, random=Five())
    assert [int.from_bytes(share, "big") for share in shares] == [1000 + 5 * x + 5 * x**2 for x in (1, 2, 3, 4)]
    assert shamir.combine({4: shares[3], 1: shares[0], 2: shares[1]}) == secret


@settings(deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), data=st.data())
def test_any_so_many_shares_give_the_secret_and_fewer_do_not(secret: bytes, data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 8))
    t = data.draw(st.integers(2, n))
    shares = shamir.split(secret, threshold=t, shares=n, random=SecureRandom())
    chosen = data.draw(st.lists(st.sampled_from(range(1, n + 1)), min_size=t, max_size=n, unique=True))
    assert shamir.combine({x: shares[x - 1] for x in chosen}) == secret
    with pytest.raises(ValueError, match="not of one secret, or too few"):  # but once in 2^265 times
        shamir.combine({x: shares[x - 1] for x in chosen[: t - 1]})


def test_fewer_shares_fit_every_secret_equally_well() -> None:
    """Of threshold 2, one share and any secret at all lie on one straight line: the share says nothing."""
    (share, _) = shamir.split(bytes(32), threshold=2, shares=2, random=SecureRandom())
    for secret in (0, 1, 2**256 - 1):
        slope = (int.from_bytes(share, "big") - secret) % shamir.PRIME
        third = ((secret + 3 * slope) % shamir.PRIME).to_bytes(66, "big")
        assert int.from_bytes(shamir.combine({1: share, 3: third}), "big") == secret


@settings(deadline=None)
@given(values=st.lists(st.floats(-(2.0**14), 2.0**14, width=32), min_size=1, max_size=20), sites=st.integers(1, 128))
def test_the_mean_in_fixed_point_is_off_by_the_stated_error_at_most(values: list[float], sites: int) -> None:
    change = {"w": np.array(values, np.float32)}
    total = {"w": masks.encode(change)["w"] * np.uint64(sites)}
    exact = [Fraction(float(v)) for v in change["w"]]
    found = masks.decode(total, sites=sites)["w"]
    assert all(
        abs(Fraction(float(f)) - e) <= Fraction(masks.ERROR) + abs(e) / 2**52 for f, e in zip(found, exact, strict=True)
    )


def test_what_lies_beyond_the_range_is_clipped_and_what_is_no_number_is_refused() -> None:
    far = masks.encode({"w": np.array([1e9, -3e38, 2.0**15], np.float32)})
    np.testing.assert_array_equal(masks.decode(far, sites=1)["w"], [2.0**15, -(2.0**15), 2.0**15])
    full = {"w": far["w"] * np.uint64(masks.MOST_SITES)}
    np.testing.assert_array_equal(masks.decode(full, sites=masks.MOST_SITES)["w"], [2.0**15, -(2.0**15), 2.0**15])
    with pytest.raises(ValueError, match="'w' holds a value that is not finite"):
        masks.encode({"w": np.array([np.nan], np.float32)})


# What it does


def test_the_masks_of_all_vanish_in_the_sum_once_the_own_ones_are_opened(play: Play) -> None:
    sent = play.until_masked()
    shares = {n: play.read(Parts, play.unmask(n, play.names)).parts for n in play.names}
    total = {part: sum(arrays[part] for arrays in sent.values()) for part in CHANGE}
    for at in range(3):
        seed = shamir.combine({x: shares[n][66 * at : 66 * at + 66] for x, n in enumerate(play.names, 1)})
        masks.blind(total, seed, add=False)
    for part, mean in masks.decode(total, sites=3).items():
        np.testing.assert_allclose(mean, CHANGE[part], rtol=0, atol=masks.ERROR)


def test_a_question_that_is_asked_again_is_answered_with_the_same_bytes(play: Play) -> None:
    assert play.offers() == play.offers()
    assert play.until_shared() == play.until_shared()
    again = [play.until_masked() for _ in range(2)]
    assert all(np.array_equal(again[0][n][part], again[1][n][part]) for n in play.names for part in CHANGE)
    assert play.unmask("aurora", play.names) == play.unmask("aurora", play.names)


def test_nothing_that_takes_a_mask_off_is_left_once_the_sum_is_opened(play: Play) -> None:
    play.until_masked()
    folder = play.sites["aurora"].folder / "masking"
    (path,) = folder.rglob("*.json")
    assert path.stat().st_mode & 0o077 == 0
    secrets = [json.loads(path.read_text())[part] for part in ("seed", "mask", "seal")]
    play.unmask("aurora", play.names)
    held = b"".join(p.read_bytes() for p in play.sites["aurora"].folder.rglob("*") if p.is_file())
    assert not any(bytes.fromhex(secret) in held or secret.encode() in held for secret in secrets)


# What it refuses


def said(play: Play, word: str, name: str = "aurora") -> bool:
    """Say whether the last words in a site's own log hold `word`."""
    return word in json.loads((play.sites[name].folder / "log").read_text().splitlines()[-1])["words"]


@pytest.mark.parametrize("threshold", [0, 1, 4])
def test_a_threshold_that_opens_too_much_or_nothing_is_refused(play: Play, threshold: int) -> None:
    assert play.share("aurora", play.offers(), threshold=threshold) is Code.REFUSED_POLICY
    assert said(play, f"threshold={threshold} of 3 sites must be in 2..3")


def test_two_thirds_of_five_are_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changing(monkeypatch, {})
    play = Play(acquainted(tmp_path, FIVE))
    offers = play.offers()
    assert play.share("aurora", offers, threshold=3) is Code.REFUSED_POLICY
    assert said(play, "must be in 4..5")
    assert not isinstance(play.share("aurora", offers, threshold=4), Code)


def test_a_site_may_ask_for_more_than_the_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changing(monkeypatch, {})
    play = Play(acquainted(tmp_path / "all", threshold=3))
    assert play.share("aurora", play.offers(), threshold=2) is Code.REFUSED_POLICY
    assert said(play, "must be in 3..3")
    play = Play(acquainted(tmp_path / "four", min_sites=4))
    assert play.share("aurora", play.offers()) is Code.REFUSED_POLICY
    assert said(play, "3 sites would begin; this site asks for 4")


def test_two_hospitals_are_no_sum(play: Play) -> None:
    offers = play.offers()
    assert play.share("aurora", {n: offers[n] for n in ("aurora", "borealis")}) is Code.REFUSED_POLICY
    assert said(play, "2 sites would begin")


def test_a_hospital_that_is_not_on_the_roster_is_refused(play: Play) -> None:
    offers = play.offers()
    sybil = Offer.read(offers["corvus"])
    assert play.share("aurora", {**offers, "zeta": sybil.raw}) is Code.REFUSED_POLICY
    assert said(play, "'zeta' is not on the roster")


def test_keys_that_the_coordinator_made_under_a_known_name_are_refused(play: Play) -> None:
    offers, session = play.offers(), Session(**play.place)
    forged = honest(play.sites["corvus"], SigningKey.create(), Offer.read(offers["borealis"]), session)
    assert play.share("aurora", {**offers, "corvus": forged.raw}) is Code.REFUSED_POLICY
    assert said(play, "the keys of 'corvus' are not signed for this try")


@pytest.mark.parametrize("parts", [("mask", "seal"), ("mask",), ("seal",)], ids=str)
def test_keys_that_two_hospitals_share_are_refused_whoever_signed_them(play: Play, parts: tuple[str, ...]) -> None:
    offers, session = play.offers(), Session(**play.place)
    theirs = Offer.read(offers["borealis"])
    copied = dataclasses.replace(Offer.read(offers["corvus"]), **{part: getattr(theirs, part) for part in parts})
    corvus = play.sites["corvus"]
    twice = {**offers, "corvus": honest(corvus, corvus.signing_key, copied, session).raw}
    assert play.share("aurora", twice) is Code.REFUSED_POLICY
    assert said(play, "two of the offered keys are one")


def test_a_key_of_small_order_is_refused(play: Play) -> None:
    offers, session, corvus = play.offers(), Session(**play.place), play.sites["corvus"]
    weak = dataclasses.replace(Offer.read(offers["corvus"]), seal=bytes(32))
    assert (
        play.share("aurora", {**offers, "corvus": honest(corvus, corvus.signing_key, weak, session).raw})
        is Code.REFUSED_POLICY
    )
    assert said(play, "weak point")


@pytest.mark.parametrize("other", [{"round": 2}, {"stage": "generator"}, {"run": "run-2"}, {"attempt": 2}], ids=str)
def test_keys_of_another_try_are_refused(play: Play, other: dict[str, Any]) -> None:
    old = play.offers()
    now = Play(list(play.sites.values()), **other)
    assert now.share("aurora", {**now.offers(), "corvus": old["corvus"]}) is Code.REFUSED_POLICY
    assert said(play, "the keys of 'corvus' are not signed for this try")


def test_a_list_without_this_site_or_with_other_keys_for_it_is_refused(tmp_path: Path, play: Play) -> None:
    offers = play.offers()
    changed = dataclasses.replace(Offer.read(offers["aurora"]), commitment=bytes(32))
    aurora = play.sites["aurora"]
    lied = {**offers, "aurora": honest(aurora, aurora.signing_key, changed, Session(**play.place)).raw}
    assert play.share("aurora", lied) is Code.REFUSED_POLICY
    assert said(play, "this site's own, as it made it")


@pytest.mark.parametrize("sites", [["borealis", "aurora", "corvus"], ["aurora", "aurora", "corvus"], ["aurora", 1, {}]])
def test_a_list_that_is_none_cannot_be_read(play: Play, sites: list[Any]) -> None:
    assert play.share("aurora", play.offers(), sites=sites) is Code.UNREADABLE


def test_a_try_that_is_past_is_not_gone_on_with(play: Play) -> None:
    sites = list(play.sites.values())
    sealed = play.until_shared()
    Play(sites, attempt=2).offers()
    assert play.train("aurora", sealed, play.names) is Code.REFUSED_POLICY
    assert Play(sites, attempt=3).until_masked()
    assert play.ask(Keys(**(play.place | {"round": 2, "attempt": 5})), "aurora")
    assert play.ask(Keys(**(play.place | {"round": 2, "attempt": 4})), "aurora") is Code.REFUSED_POLICY
    assert said(play, "attempt=4 is past")


def test_shares_that_were_changed_on_the_way_are_refused_before_anything_is_trained(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = play.until_shared()
    monkeypatch.setattr("client.training.changed", lambda *_: pytest.fail("trained"))
    broken = bytearray(sealed["corvus"])
    broken[40] ^= 1
    assert play.train("aurora", {**sealed, "corvus": bytes(broken)}, play.names) is Code.REFUSED_POLICY
    assert said(play, "shares of 'corvus' was not sealed by it")
    swapped = {**sealed, "corvus": sealed["borealis"], "borealis": sealed["corvus"]}
    assert play.train("aurora", swapped, play.names) is Code.REFUSED_POLICY


def test_too_few_who_shared_or_survived_are_refused(play: Play) -> None:
    sealed = play.until_shared()
    alone = {"aurora": sealed["aurora"]}
    assert play.train("aurora", alone, play.names) is Code.REFUSED_POLICY
    assert said(play, "1 sites are sharing, at least 2 must be")
    play.until_masked()
    assert play.unmask("aurora", ["aurora"]) is Code.REFUSED_POLICY
    assert said(play, "1 sites are in the sum, at least 2 must be")


def test_a_site_never_opens_a_sum_without_itself_or_with_a_stranger(play: Play) -> None:
    play.until_masked()
    assert play.unmask("aurora", ["borealis", "corvus"]) is Code.REFUSED_POLICY
    assert play.unmask("aurora", ["aurora", "borealis", "zeta"]) is Code.REFUSED_POLICY


def test_a_site_opens_nothing_before_it_has_sent_anything(play: Play) -> None:
    play.until_shared()
    assert play.unmask("aurora", play.names) is Code.REFUSED_POLICY
    assert said(play, "nothing that could be opened")


def test_for_one_peer_the_share_of_its_mask_and_that_of_its_key_never_both_leave(play: Play) -> None:
    play.until_masked()
    state = json.loads(next((play.sites["aurora"].folder / "masking").rglob("*.json")).read_text())
    pair = bytes.fromhex(state["held"]["corvus"])
    reply = play.read(Parts, play.unmask("aurora", play.names)).parts
    assert pair[:66] in reply
    assert play.unmask("aurora", ["aurora", "borealis"]) is Code.REFUSED_POLICY
    assert pair[66:] not in reply


def test_a_sum_that_was_opened_is_not_begun_again(play: Play) -> None:
    play.until_masked()
    play.unmask("aurora", play.names)
    again = Play(list(play.sites.values()), attempt=2)
    assert again.ask(Keys(**again.place), "aurora") is Code.REFUSED_POLICY
    assert said(play, "exchange 1 of stage 'views' was opened")


def test_what_is_trained_under_masks_is_not_had_in_clear(tmp_path: Path) -> None:
    play = Play(acquainted(tmp_path))
    for name in play.names:
        play.ask(reserve_request(PLAN), name)
    play.offers()
    assert play.ask(train_request(), "aurora") is Code.REFUSED_POLICY
    assert said(play, "leave under secure aggregation only")
    assert not isinstance(play.ask(train_request(stage="other"), "aurora"), Code)


def test_a_hospital_that_asks_for_masks_trains_in_no_other_way(tmp_path: Path) -> None:
    play = Play(acquainted(tmp_path, required=True))
    play.ask(reserve_request(PLAN), "aurora")
    assert play.ask(train_request(), "aurora") is Code.REFUSED_POLICY


def test_a_hospital_without_a_roster_takes_part_in_no_sum(tmp_path: Path) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    assert wire.ask(Keys(run="run-1", stage="views", round=1, attempt=1)) is Code.REFUSED_POLICY


def test_a_run_that_was_not_admitted_gets_no_keys(tmp_path: Path) -> None:
    play = Play(acquainted(tmp_path))
    assert play.ask(Keys(**play.place), "aurora") is Code.REFUSED_POLICY


KEY = "KWwqtKh9KgUYVSzLWxfPELiOjMiYzJFpXHPGBbOJzFo="


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"min_sites": 2}, "min_sites=2 must be at least 3"),
        ({"threshold": 1}, "threshold=1 must be at least 2"),
        ({"roster": {"a": KEY, "b": KEY}}, "one key two names"),
        ({"roster": {"a": "AAAA"}}, "not 32 bytes"),
        ({"roster": {"a": base64.b64encode(bytes([1, *[0] * 31])).decode()}}, "weak point"),
    ],
    ids=str,
)
def test_a_policy_that_would_protect_nothing_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SecureAggregation(**wrong)


# Mutants: what the tests above would not forgive


def uniform(numbers: Any) -> bool:
    """Say whether bytes look uniform: chi-square over 255 degrees of freedom below its 1 − 1e-9 quantile."""
    from scipy.stats import chi2

    counts = np.bincount(np.frombuffer(np.ascontiguousarray(numbers).tobytes(), np.uint8), minlength=256)
    expected = counts.sum() / 256
    return bool(((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-9, 255))


MANY = {"w": np.random.default_rng(0).normal(scale=1e-2, size=(64, 64)).astype(np.float32)}


def no_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(masks, "blind", lambda numbers, seed, add: None)


@pytest.mark.parametrize(("leak", "hidden"), [(lambda patch: None, True), (no_masks, False)], ids=["whole", "no masks"])
def test_what_the_coordinator_sees_of_one_site_is_uniform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: Callable[[pytest.MonkeyPatch], None], hidden: bool
) -> None:
    changing(monkeypatch, dict.fromkeys(FIVE, MANY))
    leak(monkeypatch)
    sent = Play(acquainted(tmp_path)).until_masked()
    assert [uniform(arrays["w"]) for arrays in sent.values()] == [hidden] * 3


def no_pair_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(masked, "pair_seed", lambda *_: bytes(32))
    real = masks.blind
    patch.setattr(masks, "blind", lambda n, seed, add: None if seed == bytes(32) else real(n, seed, add=add))


@pytest.mark.parametrize(("leak", "hidden"), [(lambda patch: None, True), (no_pair_masks, False)], ids=["whole", "own"])
def test_and_it_stays_so_once_the_own_mask_of_that_site_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: Callable[[pytest.MonkeyPatch], None], hidden: bool
) -> None:
    changing(monkeypatch, dict.fromkeys(FIVE, MANY))
    leak(monkeypatch)
    play = Play(acquainted(tmp_path))
    sent = play.until_masked()
    shares = {n: play.read(Parts, play.unmask(n, play.names)).parts for n in play.names}
    seed = shamir.combine({x: shares[n][:66] for x, n in enumerate(play.names, 1)})
    masks.blind(sent["aurora"], seed, add=False)
    assert uniform(sent["aurora"]["w"]) is hidden


def test_the_secrets_of_every_try_are_others(play: Play) -> None:
    sites = list(play.sites.values())
    seen = [Play(sites, round=r, attempt=a).offers()["aurora"] for r in (1, 2) for a in (1, 2)]
    assert len({part for raw in seen for part in (raw[:32], raw[32:64], raw[64:96])}) == 12
