"""What is known of a certificate since it was issued: lists of withdrawals, and the chain of certificates."""

import dataclasses
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import certificate as c
from evaluation import revocation as r
from evaluation.certificate import CERTIFICATE, InvalidCertificate, Verified, verify
from evaluation.envelope import Envelope, seal
from evaluation.revocation import Entry, Reason, Revocations, Withdrawal, head_of, updated
from evaluation.statement import write_time
from evaluation.trust import SigningKey
from tests.certified import NOW, Certified, certify, statement

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certify(tmp_path_factory.mktemp("made"))


@pytest.fixture
def held(made: Certified) -> Verified:
    return verify(made.folder, trust=made.trust, now=NOW)


def own(held: Verified) -> Entry:
    return r.entry_of(held.statement, held.digest)


def taken(digest: str) -> Withdrawal:
    return Withdrawal(certificate=digest, withdrawn=write_time(NOW), reason=Reason.KEY_LOST, says="a key was lost")


def test_without_a_list_the_status_is_unknown_since_the_day_of_issue(held: Verified) -> None:
    assert r.status(held, None, now=NOW).says.startswith(f"status unknown since {write_time(NOW)}")


def test_a_fresh_list_that_enters_a_certificate_says_that_it_was_not_withdrawn(held: Verified) -> None:
    listed = updated(None, now=NOW, enter=[own(held)])
    assert r.status(held, listed, now=NOW).known
    stale = r.status(held, listed, now=NOW + 31 * DAY)
    assert (stale.known, stale.since) == (False, listed.next_update)


def test_a_list_that_does_not_know_a_certificate_vouches_for_nothing(held: Verified) -> None:
    assert not r.status(held, updated(None, now=NOW), now=NOW).known


def test_a_withdrawn_certificate_is_refused_even_by_a_list_that_is_out_of_date(held: Verified) -> None:
    listed = updated(None, now=NOW, enter=[own(held)], withdraw=[taken(held.digest)])
    for late in (0, 400):
        with pytest.raises(r.Withdrawn, match="key_lost"):
            r.status(held, listed, now=NOW + late * DAY)


def test_an_older_certificate_shown_again_is_refused(held: Verified) -> None:
    newer = Entry(certificate="cd" * 32, issued=write_time(NOW + DAY), supersedes=held.digest)
    with pytest.raises(r.Superseded, match="replaced"):
        r.status(held, updated(None, now=NOW, enter=[own(held), newer]), now=NOW)


def test_a_clock_that_was_set_back_is_noticed(held: Verified) -> None:
    with pytest.raises(c.NotYetValid):
        r.status(held, updated(None, now=NOW + DAY, enter=[own(held)]), now=NOW)


def test_a_list_that_dates_a_certificate_otherwise_is_refused(held: Verified) -> None:
    wrong = dataclasses.replace(own(held), issued=write_time(NOW - DAY))
    with pytest.raises(r.BrokenChain):
        r.status(held, updated(None, now=NOW, enter=[wrong]), now=NOW)


def test_an_older_list_cannot_pass_for_the_newest_where_a_newer_one_was_kept(held: Verified) -> None:
    first = updated(None, now=NOW, enter=[own(held)])
    second = updated(first, now=NOW, withdraw=[taken("cd" * 32)])
    assert r.status(held, second, now=NOW, older=first).known
    with pytest.raises(r.BrokenChain, match="list 1 does not extend list 2"):
        r.status(held, first, now=NOW, older=second)


digests = st.integers(0, 2**256 - 1).map(lambda n: f"{n:064x}")
entries = st.lists(
    st.builds(Entry, certificate=digests, issued=st.just(write_time(NOW)), supersedes=st.none() | digests),
    max_size=4,
    unique_by=lambda e: e.certificate,
)


@settings(deadline=None)
@given(st.lists(entries, min_size=2, max_size=4), st.data())
def test_nothing_that_stood_in_a_list_can_be_dropped_changed_or_moved(steps: list[list[Entry]], data) -> None:
    chain: list[Revocations] = []
    for step, new in enumerate(steps):
        there = {e.certificate for e in chain[-1].entries} if chain else set()
        fresh = [e for e in new if e.certificate not in there]
        chain.append(updated(chain[-1] if chain else None, now=NOW + step * DAY, enter=fresh))
    for i, older in enumerate(chain):
        for newer in chain[i:]:
            assert newer.extends(older)
            assert older.extends(newer) == (older == newer)
    last, before = chain[-1], chain[-2]
    if before.entries:
        k = data.draw(st.integers(0, len(before.entries) - 1))
        cut = last.entries[:k] + last.entries[k + 1 :]
        forged = dataclasses.replace(last, entries=cut, head=head_of(cut))
        assert not forged.extends(before)
        with pytest.raises(ValueError, match="head"):
            dataclasses.replace(last, entries=cut)


def test_a_list_counts_if_the_coordinator_or_enough_sites_signed_it(made: Certified, held: Verified) -> None:
    listed = updated(None, now=NOW, enter=[own(held)])
    assert r.read(r.sealed(listed, made.coordinator).canonical, trust=made.trust) == listed
    one = r.sealed(listed, made.sites["site-a"])
    with pytest.raises(c.TooFewSignatures):
        r.read(one.canonical, trust=made.trust)
    assert r.read(r.cosigned(one, made.sites["site-b"]).canonical, trust=made.trust) == listed
    with pytest.raises(c.UnknownKey):
        r.read(r.sealed(listed, SigningKey.create()).canonical, trust=made.trust)


def test_neither_a_certificate_nor_a_list_can_pass_for_the_other(made: Certified, held: Verified) -> None:
    with pytest.raises(c.MalformedCertificate, match="payloadType"):
        r.read(made.envelope.canonical, trust=made.trust)
    listed = r.sealed(updated(None, now=NOW, enter=[own(held)]), made.coordinator)
    with pytest.raises(c.MalformedCertificate, match="payloadType"):
        verify(made.folder, trust=made.trust, now=NOW, raw=listed.canonical)
    relabelled = Envelope(payload=listed.payload, signatures=listed.signatures)
    with pytest.raises(c.ForgedSignature):
        verify(made.folder, trust=made.trust, now=NOW, raw=relabelled.canonical)
    as_list = seal(made.envelope.payload, made.coordinator, r.PAYLOAD_TYPE)
    with pytest.raises(c.MalformedCertificate):
        r.read(
            Envelope(payload=made.envelope.payload, signatures=(as_list,), payload_type=r.PAYLOAD_TYPE).canonical,
            trust=made.trust,
        )


def test_no_bit_of_a_list_can_be_flipped(made: Certified, held: Verified) -> None:
    raw = r.sealed(updated(None, now=NOW, enter=[own(held)]), made.coordinator).canonical
    for place in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[place] ^= 1 << bit
            with pytest.raises(InvalidCertificate):
                r.read(bytes(flipped), trust=made.trust)


def renewed(made: Certified, tmp_path: Path, **changes: object) -> Certified:
    newer = dataclasses.replace(made, folder=shutil.copytree(made.folder, tmp_path / "newer"))
    subject = c.parse(made.envelope.payload).subject
    newer.resign(statement(subject=subject, **{"issued": NOW + DAY, **changes}))  # type: ignore[arg-type]
    return newer


def test_a_certificate_names_the_one_that_it_replaces(made: Certified, held: Verified, tmp_path: Path) -> None:
    newer = renewed(made, tmp_path, supersedes=held.digest)
    stated = verify(newer.folder, trust=made.trust, now=NOW + DAY).statement
    older = (made.folder / CERTIFICATE).read_bytes()
    assert r.follows(stated, older, trust=made.trust) == held.statement
    with pytest.raises(r.BrokenChain, match="does not supersede"):
        r.follows(held.statement, older, trust=made.trust)
    with pytest.raises(c.UnknownKey):
        r.follows(stated, certify(tmp_path / "else").envelope.canonical, trust=made.trust)


def test_a_certificate_cannot_replace_a_younger_one(made: Certified, held: Verified, tmp_path: Path) -> None:
    newer = renewed(made, tmp_path, supersedes=held.digest, issued=NOW - DAY)
    with pytest.raises(r.BrokenChain, match="younger"):
        r.follows(c.parse(newer.envelope.payload), (made.folder / CERTIFICATE).read_bytes(), trust=made.trust)


def test_a_certificate_can_be_entered_and_withdrawn_once(held: Verified) -> None:
    listed = updated(None, now=NOW, enter=[own(held)])
    with pytest.raises(ValueError, match="entered twice"):
        updated(listed, now=NOW, enter=[own(held)])
    with pytest.raises(ValueError, match="withdrawn twice"):
        updated(listed, now=NOW, withdraw=[taken(held.digest)] * 2)


@pytest.mark.parametrize(
    "changes",
    [{"number": 0}, {"version": 2}, {"head": "0" * 64}, {"next_update": write_time(NOW)}],
    ids=str,
)
def test_a_list_cannot_contradict_itself(held: Verified, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"head|next_update|number"):
        dataclasses.replace(updated(None, now=NOW, enter=[own(held)]), **changes)  # type: ignore[arg-type]
