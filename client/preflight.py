"""Everything that would keep a site from taking part, found at once: files, clock, disk, keys, studies, account, way.

Nothing is sent but a TLS greeting to the coordinator's own address.
"""

import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from cryptography import x509

LEAST_BYTES = 2 * 2**30
SKEW_SECONDS, SECONDS, SOON_DAYS = 120.0, 10.0, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at: whether it is as it must be, in words, and what to do where it is not."""

    what: str
    ok: bool
    words: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the check as a JSON object."""
        return asdict(self)


def look(folder: Path) -> Iterator[Check]:
    """Look at everything about the site in `folder`; a check that fails does not keep the next from being made."""
    from client.site import Site

    try:
        site = Site(folder)
    except (OSError, ValueError) as error:
        yield Check(what="site.yaml", ok=False, words=str(error), remedy="mend the file that is named")
        return
    yield Check(what="site.yaml", ok=True, words=f"{site.name}, {site.file.public_subjects} patients declared")
    for what, body, remedy in (
        ("secrets", _secrets, "chmod -R go-rwx the folder secrets, and node"),
        ("disk", _disk, "free space on the disk of the site folder"),
        ("studies", _studies, "pericard cohort check says what is wrong with them"),
        ("account", _account, "pericard site ledger --verify says which event is not as it was written"),
        ("code", _code, "install one version of pericard, in one folder"),
        ("coordinator", _coordinator, "take its (renewed) invitation: pericard site join FOLDER --invitation FILE"),
        ("way", _way, "ask the coordinator whether it runs, and the network people to let this machine reach it"),
        ("approval", _approval, "pericard site approve FOLDER proposal.json"),
    ):
        yield _made(what, body, site, remedy)


def _made(what: str, body: Callable[[Any], str], site: Any, remedy: str) -> Check:
    from evaluation.provenance import ScatteredCode
    from privacy.events import LedgerCorrupt

    try:
        return Check(what=what, ok=True, words=body(site))
    except (OSError, ValueError, KeyError, ScatteredCode, LedgerCorrupt) as error:
        return Check(what=what, ok=False, words=" ".join(str(error).split()) or type(error).__name__, remedy=remedy)


def _secrets(site: Any) -> str:
    kept = [*(site.folder / "secrets").iterdir(), *(site.folder / "node").glob("*.key")]
    if loose := [path for path in kept if path.stat().st_mode & 0o077]:
        raise ValueError(f"{loose[0]} can be read by others than its owner")
    return f"{len(kept)} files, readable by their owner only"


def _disk(site: Any) -> str:
    free = shutil.disk_usage(site.folder).free
    if free < LEAST_BYTES:
        raise ValueError(f"{free / 2**30:.1f} GiB are free, at least {LEAST_BYTES / 2**30:.0f} are needed")
    probe = site.folder / ".probe"
    probe.write_bytes(b"x")
    probe.unlink()
    return f"{free / 2**30:.0f} GiB free"


def _studies(site: Any) -> str:
    found = len(site.cohort.subjects)
    if not found:
        raise ValueError("no patients were read")
    declared = site.file.public_subjects
    if not 0.8 <= declared / found <= 1.25:
        raise ValueError(f"{found} patients are there, {declared} are declared in site.yaml")
    return f"{found} patients read by {site.file.cohort['reader']}"


def _account(site: Any) -> str:
    return f"{len(site.ledger.verify())} events, as they were written"


def _code(site: Any) -> str:
    from client.admission import own_code

    own = own_code()
    if not {"installed", own} & set(site.policy.code):
        raise ValueError(f"code {own[:12]}… is installed, but not among the reviewed in site.yaml")
    return f"digest {own[:12]}…"


def _coordinator(site: Any) -> str:
    from client.node import AUTHORITY, FOLDER, Coordinator

    joined = Coordinator.read(site)
    authority = x509.load_pem_x509_certificate((site.folder / FOLDER / AUTHORITY).read_bytes())
    left = (authority.not_valid_after_utc - datetime.now(UTC)).days
    if left < 0:
        raise ValueError(f"the certificate of its authority expired {-left} days ago")
    return f"{joined.address}; compare its key by telephone: {joined.public_key[:16]}…"


def _way(site: Any) -> str:
    """Greet the coordinator over TLS and compare clocks by the date that its server states."""
    from client.node import AUTHORITY, FOLDER, Coordinator

    address = Coordinator.read(site).address
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(site.folder / FOLDER / AUTHORITY))
    with _told_apart(address):
        return _greeted(host.strip("[]"), int(port), context)


@contextmanager
def _told_apart(address: str) -> Iterator[None]:
    """Say in words of ours why `address` was not reached; raises `ValueError`."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise ValueError(
            f"the certificate at {address} is not one that the authority of the invitation signed for it: "
            f"{error.verify_message}"
        ) from error
    except ConnectionRefusedError as error:
        raise ValueError(f"nobody listens at {address}: the coordinator may not be running now") from error
    except socket.gaierror as error:
        raise ValueError(f"this machine knows no address of {address}") from error
    except TimeoutError as error:
        raise ValueError(f"{address} does not answer: a firewall on the way may drop what is sent") from error


def _greeted(host: str, port: int, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection((host, port), timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        certificate, version = secured.getpeercert() or {}, secured.version()
        secured.sendall(f"GET /v1/control/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = secured.recv(4096).decode("latin-1")
    if not answer.startswith("HTTP/1.1 404"):
        raise ValueError("the coordinator shows sites more than its fleet interface; do not join")
    skew = abs(time.time() - _date(answer)) if _date(answer) else 0.0
    if skew > SKEW_SECONDS:
        raise ValueError(f"the clocks differ by {skew:.0f} s; signatures are refused beyond 300")
    left = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    if left < SOON_DAYS:
        return f"reached over {version}; its certificate ends in {left:.0f} days"
    return f"reached over {version}, clocks agree to {skew:.0f} s"


def _date(answer: str) -> float:
    lines = [line for line in answer.splitlines() if line.lower().startswith("date:")]
    return parsedate_to_datetime(lines[0].partition(":")[2].strip()).timestamp() if lines else 0.0


def _approval(site: Any) -> str:
    from client.node import approved_bundle

    if not site.policy.approval:
        raise ValueError("site.yaml says approval: false, so that whatever the policy admits would run")
    return f"bundle {approved_bundle(site)[:12]}…"
