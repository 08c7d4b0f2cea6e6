"""`pericard site log`: what entered and left a hospital, and whether its journal is as it was written."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pericard.errors import Exit

if TYPE_CHECKING:
    from client.journal import Checked


def show(path: Path, *, only_verify: bool, public_key: str, head: str, last: int, as_json: bool) -> int:
    """Verify a journal, and print its last messages unless `only_verify`.

    Args:
        path: folder of a site, or a copy of its journal.
        only_verify: print no messages.
        public_key: 32 bytes in hexadecimal, needed for a copy.
        head: `SEQ:HASH` that the journal must still hold; "" for none.
        last: how many messages to print.
        as_json: as one JSON document.

    Raises:
        JournalCorrupt: it is not as it was written; exit code 6.
        UsageError: no key for a copy, or one that is none.
    """
    from client.journal import verify
    from conf.compose import UsageError

    file, public = _found(path, public_key)
    content = file.read_bytes() if file.exists() else b""
    try:
        checked = verify(content, public, head=head)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if as_json:
        entries = [] if only_verify else [asdict(entry) for entry in checked.entries[-last:]]
        told = {"entries": len(checked.entries), "head": checked.head, "torn": checked.torn, "public_key": public.hex()}
        sys.stdout.write(json.dumps({**told, "last": entries}, indent=1) + "\n")
    else:
        _print(checked, public, 0 if only_verify else last)
    return Exit.PASS


def _found(path: Path, public_key: str) -> tuple[Path, bytes]:
    from client.journal import FILE
    from conf.compose import UsageError
    from pericard.ledger import opened

    try:
        public = bytes.fromhex(public_key)
    except ValueError as error:
        raise UsageError(f"--public-key {public_key}: not hexadecimal") from error
    if public_key and len(public) != 32:
        raise UsageError(f"--public-key holds {len(public)} bytes, must hold 32")
    if path.is_dir():
        return path / FILE, public or opened(path).signing_key.public
    if not public:
        raise UsageError(f"{path} is a copy: give --public-key HEX of the site it came from")
    return path, public


def _print(checked: "Checked", public: bytes, last: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from pericard.status import wide

    console, entries = wide(Console()), checked.entries
    if last and entries:
        table = Table("entry", "utc", "way", "message", "run", "stage", "bytes", "code", "digest", box=None)
        for e in entries[-last:]:
            cells = (str(e.seq), e.utc[:19], e.way, e.kind, e.run, e.stage, str(e.n_bytes), e.code, e.digest[:12])
            table.add_row(*cells)
        console.print(table)
    console.print(f"Verified: {len(entries)} entries, each signed by {public.hex()[:16]}…", highlight=False)
    if checked.torn:
        console.print("After them a line that a crash tore: what it spoke of never left.")
    if entries:
        console.print(f"Head {checked.head}", highlight=False, soft_wrap=True)
