"""The outermost layer of a site: a message comes in whole or not at all, and nothing but a code says why not.

An exception's text can hold a file name, and a file name a patient's. So no exception passes: its words go into the
site's own `log` under a reference, and the reply is `Error(code, "CODE ref=…")` (flower.md 4.5). Replies are read back
through their schema before they leave, so a field that no schema knows stays here, too.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from uuid import uuid4

from flwr.app import Context, Error, Message

from client.site import find
from learning import messages
from learning.messages import REPLIES, REQUESTS, Code, Refusal


class _OverTime(BaseException):
    """Raised by the clock; a `BaseException`, so that no handler on the way takes it for a failure of its own."""


def guard(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Serve one message, or answer it with a code and a reference into the site's log."""
    folder: Path | None = None
    try:
        site = find(context.node_config)
        folder = site.folder
        with _clock(site.policy.seconds_per_message):
            if message.metadata.message_type not in REQUESTS or not message.has_content():
                words = f"no request is called {message.metadata.message_type!r}"
                raise Refusal(Code.UNREADABLE, words)  # noqa: TRY301
            reply = call_next(message, context)
            messages.decode(reply.content, REPLIES[message.metadata.message_type])
            return reply
    except KeyboardInterrupt:  # somebody at this machine wants it to stop
        raise
    except BaseException as error:
        code, reference = code_of(error), uuid4().hex[:12]
        _write_log(folder, message.metadata.message_type, code, reference, error)
        return Message(Error(code, f"{code.name} ref={reference}"), reply_to=message)


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
