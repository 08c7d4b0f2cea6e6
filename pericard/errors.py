"""Exceptions become exit codes here, and nowhere else.

A user's mistake is one line on stderr and a code; a bug keeps its traceback. Classes are matched by name, so that
nothing is imported to say that something went wrong: whoever raised the exception has imported its module already.

```
Exit
├── 0 PASS          done, and the verdict is PASS
├── 1 FAIL          done, and a required rule is violated
├── 2 USAGE         conf.compose.UsageError, evaluation.orphans.InUse, an unknown command or option,
│                   a file the system will not open
├── 3 INCONCLUSIVE  done, and the evidence is too weak
├── 4 REFUSED       privacy.events.LedgerRefusal (BudgetExceeded is one), learning.messages.Refusal,
│                   privacy.events.LedgerUnwritable, server.rounds.QuorumLost, server.failure.CampaignFailed,
│                   server.fleet.LinkLost, evaluation.provenance.ScatteredCode
├── 5 UNREADABLE    cohorts.study.UnreadableStudy, and a quorum that was lost because of one
├── 6 INTEGRITY     evaluation.certificate.InvalidCertificate, privacy.events.LedgerCorrupt,
│                   client.journal.JournalCorrupt, server.failure.CampaignChanged
├── 70              a bug (with its traceback)
└── 130             stopped by Ctrl-C
```
"""

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    REFUSED = 4
    UNREADABLE = 5
    INTEGRITY = 6
    BUG = 70
    STOPPED = 130


CODES: Mapping[str, Exit] = {
    "conf.compose.UsageError": Exit.USAGE,
    "evaluation.orphans.InUse": Exit.USAGE,
    "privacy.events.LedgerRefusal": Exit.REFUSED,
    "privacy.events.LedgerUnwritable": Exit.REFUSED,
    "learning.messages.Refusal": Exit.REFUSED,
    "server.rounds.QuorumLost": Exit.REFUSED,
    "server.failure.CampaignFailed": Exit.REFUSED,
    "server.fleet.LinkLost": Exit.REFUSED,
    "evaluation.provenance.ScatteredCode": Exit.REFUSED,
    "cohorts.study.UnreadableStudy": Exit.UNREADABLE,
    "evaluation.certificate.InvalidCertificate": Exit.INTEGRITY,
    "privacy.events.LedgerCorrupt": Exit.INTEGRITY,
    "client.journal.JournalCorrupt": Exit.INTEGRITY,
    "server.failure.CampaignChanged": Exit.INTEGRITY,
}
SITE_CODES: Mapping[str, Exit] = {"UNREADABLE": Exit.UNREADABLE}  # what a site answers, where that says more


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of `error`; `Exit.BUG` for whatever no user could have caused."""
    answers = getattr(error, "failed", {})  # of a lost quorum: why each site did not take part
    for answer in answers.values() if isinstance(answers, Mapping) else ():
        if (code := SITE_CODES.get(str(answer).split(" ", 1)[0])) is not None:
            return code
    for kind in type(error).__mro__:
        if (code := CODES.get(f"{kind.__module__}.{kind.__qualname__}")) is not None:
            return code
    if isinstance(error, OSError) and error.filename is not None:
        return Exit.USAGE
    return Exit.BUG


def one_line(error: BaseException) -> str:
    """Return what `error` says, on one line and without control characters."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror or type(error).__name__}"
    else:
        text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
