"""The outermost layer of a site: a message comes in whole or not at all, and nothing but a code says why not.

An exception's text can hold a file name, and a file name a patient's. So no exception passes: its words go into the
site's own `log` under a reference, and the reply is `Error(code, "CODE ref=…")` (flower.md 4.5). Replies are read back
through their schema before they leave, so a field that no schema knows stays here, too; where campaigns are approved,
they are held against the manifest of what may leave (`client.outgoing`).

Both ways every message is written into the journal (`client.journal`) first. What cannot be written down, on a full
disk, does not leave and is not even computed: the answer is the constant `UNRECORDED`.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict

from client import outgoing
from client.journal import FILE as JOURNAL
from client.journal import SERVED, Journal, Passing
from client.outgoing import Line
from client.policy import NAME
from client.site import Site, find
from learning import messages, schema
from learning.messages import REPLIES, REQUESTS, Code, Refusal

UNKNOWN = "unknown"  # stands for a kind of message that is none: its name is a stranger's words


class _OverTime(BaseException):
    """Raised by the clock; a `BaseException`, so that no handler on the way takes it for a failure of its own."""


def guard(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Serve one message, or answer it with a code and a reference into the site's log; both are written down."""
    visit = _Visit(message)
    try:
        return visit.left(visit.served(context, call_next), SERVED)
    except KeyboardInterrupt:  # somebody at this machine wants it to stop
        raise
    except BaseException as error:
        return visit.refused(error)


class _Visit:
    """One message at this site, from its entry in the journal to that of what leaves for it."""

    def __init__(self, message: Message) -> None:
        self.message, self.kind = message, message.metadata.message_type
        self.site: Site | None = None
        self.line: Line | None = None
        self.journal: Journal | None = None
        self.number = 0
        self.run = self.stage = ""

    def served(self, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        """Return the reply, checked; nothing is computed for what could not be written down or would not leave."""
        message = self.message
        self.site = find(context.node_config)
        known = self.kind in REQUESTS and message.has_content()
        if known:
            self.run, self.stage = (_named(message.content, word) for word in ("run", "stage"))
        digest, size = messages.weigh(message.content) if message.has_content() else _of_words("")
        self.journal = Journal(self.site.folder / JOURNAL, self.site.signing_key)
        self.number = self.journal.entered(self._entry(digest, size))
        with _clock(self.site.policy.seconds_per_message):
            if not known:
                raise Refusal(Code.UNREADABLE, f"no request is called {self.kind!r}")
            self.line = outgoing.line_for(self.site, kind=self.kind, run=self.run, stage=self.stage)
            reply = call_next(message, context)
            messages.decode(reply.content, REPLIES[self.kind])
        return reply

    def left(self, reply: Message, code: str) -> Message:
        """Write down that `reply` leaves, and return it; raises `Refusal` where the manifest does not hold it."""
        if self.journal is None:  # no site: nobody's journal
            return reply
        if reply.has_content():
            digest, size = messages.weigh(reply.content)
        else:
            digest, size = _of_words(f"{reply.error.code} {reply.error.reason}")
        line = self.line if code == SERVED else None
        admit = None if line is None else partial(line.admit, digest, size)
        self.journal.leaves(self._entry(digest, size), code=code, answers=self.number, admit=admit)
        return reply

    def refused(self, error: BaseException) -> Message:
        """Return a code in the place of a reply; where not even that can be written down, one that says only so."""
        folder = self.site.folder if self.site else None
        code, reference = code_of(error), uuid4().hex[:12]
        _write_log(folder, self.kind, code, reference, error)
        if self.site is None or self.number:
            try:
                return self.left(Message(Error(code, f"{code.name} ref={reference}"), reply_to=self.message), code.name)
            except Exception as unwritten:
                _write_log(folder, self.kind, Code.UNRECORDED, reference, unwritten)
        return Message(Error(Code.UNRECORDED, Code.UNRECORDED.name), reply_to=self.message)

    def _entry(self, digest: str, size: int) -> Passing:
        kind = self.kind if self.kind in REQUESTS else UNKNOWN
        return Passing(kind=kind, run=self.run, stage=self.stage, digest=digest, n_bytes=size)


def _named(record: RecordDict, word: str) -> str:
    """Return the run or the stage that a request names, "" where it names none that could be one."""
    config = record.config_records.get(messages.RECORD)
    try:
        found = schema.parse("json", config and config.get("json")).get(word)
    except schema.Malformed:  # whoever reads it whole will say so
        return ""
    return found if isinstance(found, str) and NAME.fullmatch(found) else ""


def _of_words(words: str) -> tuple[str, int]:
    return hashlib.sha256(words.encode()).hexdigest(), len(words.encode())


def code_of(error: BaseException) -> Code:
    """Return all that leaves about `error`."""
    ledger = sys.modules.get("privacy.ledger")  # what was never imported cannot have raised
    if isinstance(error, Refusal):
        return error.code
    if isinstance(error, _OverTime):
        return Code.OVER_TIME
    if ledger is not None and isinstance(error, ledger.LedgerRefusal):
        return Code.REFUSED_BUDGET
    return Code.FAILED


@contextmanager
def _clock(seconds: int) -> Iterator[None]:
    """Raise `_OverTime` after `seconds`; signals reach the main thread only, elsewhere the clock does not run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _OverTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _write_log(folder: Path | None, kind: str, code: Code, reference: str, error: BaseException) -> None:
    if folder is None:  # no site, no log; stderr belongs to the operator of this node
        traceback.print_exception(error)
        return
    entry = {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "reference": reference,
        "message": kind,
        "code": code.name,
        "error": type(error).__name__,
        "words": str(error),
        "trace": traceback.format_tb(error.__traceback__)[-5:],
    }
    try:
        handle = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8") as log:
            log.write(json.dumps(entry, ensure_ascii=False) + "\n")
    except OSError:  # a full disk must not turn the reply into an exception with words
        traceback.print_exception(error)
