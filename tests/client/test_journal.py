"""What entered and left a site can be read by a stranger years later, and nobody can have changed it meanwhile."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import journal
from client.journal import FILE, IN, OUT, Entry, Journal, JournalCorrupt, Passing, Unwritable, verify
from client.site import Site
from evaluation.trust import SigningKey
from learning import messages
from learning.messages import Code, Hello
from tests.hospitals import CANARY, PLAN, Wire, hospital, reserve_request, train_request

KEY = SigningKey.create()
SAID = Passing(kind="train", run="run-1", stage="views", digest="ab" * 32, n_bytes=9)


def kept(path: Path, n: int = 6) -> bytes:
    book = Journal(path, KEY)
    for _ in range(n // 2):
        book.leaves(SAID, code="OK", answers=book.entered(SAID), admit=None)
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return kept(tmp_path_factory.mktemp("journal") / FILE)


def test_a_stranger_with_the_public_key_can_verify_a_copy(whole: bytes) -> None:
    entries = verify(whole, KEY.public).entries
    assert [(e.seq, e.way, e.answers) for e in entries] == [(k, (IN, OUT)[1 - k % 2], 0 if k % 2 else k - 1)
                                                          for k in range(1, 7)]  # fmt: skip
    assert all(Entry.parse(e.line) == e for e in entries)


def test_another_key_verifies_nothing_of_it(whole: bytes) -> None:
    with pytest.raises(JournalCorrupt, match="line 1 does not carry the signature"):
        verify(whole, SigningKey.create().public)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_changed_byte_is_found(whole: bytes, data: st.DataObject) -> None:
    at, by = data.draw(st.integers(0, len(whole) - 2)), data.draw(st.integers(1, 255))
    changed = whole[:at] + bytes([whole[at] ^ by]) + whole[at + 1 :]
    with pytest.raises(JournalCorrupt, match="line"):
        verify(changed, KEY.public)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_line_that_was_taken_out_doubled_or_moved_is_found(whole: bytes, data: st.DataObject) -> None:
    lines = whole.splitlines(keepends=True)
    k = data.draw(st.integers(0, len(lines) - 2))
    other = data.draw(st.integers(0, len(lines) - 1).filter(lambda j: j != k))
    moved = list(lines)
    moved[k], moved[other] = moved[other], moved[k]
    for changed in (lines[:k] + lines[k + 1 :], lines[: k + 1] + lines[k:], moved):
        with pytest.raises(JournalCorrupt, match="line"):
            verify(b"".join(changed), KEY.public)


def test_what_was_cut_off_at_the_end_is_missed_beside_a_later_head(whole: bytes) -> None:
    head = verify(whole, KEY.public).head
    cut = b"".join(whole.splitlines(keepends=True)[:4])
    assert len(verify(cut, KEY.public).entries) == 4
    assert len(verify(whole, KEY.public, head=verify(cut, KEY.public).head).entries) == 6
    with pytest.raises(JournalCorrupt, match="entry 6 is not the one"):
        verify(cut, KEY.public, head=head)
    with pytest.raises(ValueError, match="SEQ:HASH"):
        verify(whole, KEY.public, head="newest")


def test_an_end_that_was_written_anew_is_missed_beside_its_head(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    other = kept(path, 2)
    assert len(verify(other, KEY.public).entries) == 6
    with pytest.raises(JournalCorrupt, match="rewritten"):
        verify(other, KEY.public, head=verify(whole, KEY.public).head)


def test_a_line_that_a_crash_tore_is_told_and_the_next_one_takes_its_place(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(whole[:-7])
    assert verify(path.read_bytes(), KEY.public).torn
    Journal(path, KEY).entered(SAID)
    checked = verify(path.read_bytes(), KEY.public)
    assert (len(checked.entries), checked.torn) == (6, False)


def test_a_journal_whose_last_line_was_changed_is_not_continued(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(whole.replace(b'"seq":6', b'"seq":7'))
    with pytest.raises(JournalCorrupt, match="its last line"):
        Journal(path, KEY).entered(SAID)


def test_a_full_disk_leaves_the_journal_as_it_was(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE
    path.write_bytes(whole)
    write = os.write

    def half(handle: int, content: bytes) -> int:
        if len(content) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, content[: len(content) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(Unwritable, match="No space left"):
        Journal(path, KEY).entered(SAID)
    assert path.read_bytes() == whole


def book_of(site: Site) -> tuple[Entry, ...]:
    return verify((site.folder / FILE).read_bytes(), site.signing_key.public).entries


def test_every_message_of_a_site_is_in_its_journal_with_what_became_of_it(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path))
    wire.ask(Hello())
    wire.ask(reserve_request(PLAN))
    reply = wire.raw(messages.encode(train_request()), "train")
    wire.raw(messages.encode(Hello()), "query.doe_jane")
    entries = book_of(site)
    assert [(e.way, e.kind, e.run, e.stage, e.code) for e in entries if e.way == OUT] == [
        ("out", "query.hello", "", "", "OK"), ("out", "query.reserve", "run-1", "", "OK"),
        ("out", "train", "run-1", "views", "OK"), ("out", "unknown", "", "", "UNREADABLE"),
    ]  # fmt: skip
    assert [e.answers for e in entries if e.way == OUT] == [e.seq for e in entries if e.way == IN]
    assert (entries[5].digest, entries[5].n_bytes) == messages.weigh(reply.content)
    assert (site.folder / FILE).stat().st_mode & 0o077 == 0


def test_nothing_of_a_patient_and_no_word_of_an_error_is_in_it(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path, cohort={"reader": "canary", "broken": True}))
    wire.ask(reserve_request(PLAN))
    assert wire.ask(train_request()) is Code.FAILED
    written = (site.folder / FILE).read_text()
    assert CANARY not in written
    assert "/records" not in written
    assert not any(key in written for key in site.cohort.subjects)
    assert [e.code for e in book_of(site)] == ["", "OK", "", "FAILED"]


def test_what_cannot_be_written_down_is_not_computed_and_does_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(site := hospital(tmp_path))
    with monkeypatch.context() as full:
        full.setattr(journal, "_write_all", _full)
        reply = wire.raw(messages.encode(reserve_request(PLAN)), "query.reserve")
    assert (reply.error.code, reply.error.reason) == (Code.UNRECORDED, "UNRECORDED")
    assert site.ledger.spent() == (0.0, 0.0)
    assert wire.ask(Hello()).site == "aurora"


def test_a_disk_that_fills_up_while_a_reply_is_made_keeps_the_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, write = Wire(site := hospital(tmp_path)), journal._write_all
    with monkeypatch.context() as filling:
        filling.setattr(journal, "_write_all", lambda h, line: (write if b'"way":"in"' in line else _full)(h, line))
        assert wire.ask(Hello()) is Code.UNRECORDED
    assert not any(b"aurora" in part for part in wire.sent)
    assert [e.way for e in book_of(site)] == ["in"]


def test_a_site_that_cannot_sign_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> Any:
        raise PermissionError(f"/keys/{CANARY}.pem")

    wire = Wire(hospital(tmp_path))
    monkeypatch.setattr(Site, "signing_key", property(fail))
    assert wire.ask(Hello()) is Code.UNRECORDED
    assert not any(CANARY.encode() in part for part in wire.sent)


def _full(handle: int, line: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
