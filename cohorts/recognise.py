"""Which reader opens a folder: the only one that knows its layout for certain, or the one that is named.

A layout is never guessed. Where two readers know a folder, or none does, the answer names what there is to choose from.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cohorts.readers import READERS
from cohorts.study import UnreadableStudy
from conf.compose import UsageError, compose_part
from conf.registry import Registry


def candidates(root: Path, readers: Registry = READERS) -> tuple[str, ...]:
    """Return the names of all readers that recognise `root`, in alphabetical order."""
    return tuple(name for name in readers if hasattr(readers[name], "recognises") and readers[name].recognises(root))


def recognise(root: Path, readers: Registry = READERS, *, override: str = "--reader") -> str:
    """Return the name of the only reader that recognises `root`.

    Args:
        root: the folder.
        readers: to choose from.
        override: the option by which a person names the reader instead, for the message.

    Raises:
        UnreadableStudy: `root` is no folder.
        UsageError: no reader knows the layout, or several do; they are named.
    """
    if not root.is_dir():
        raise UnreadableStudy(str(root), "is not a folder")
    found = candidates(root, readers)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{root}: {' and '.join(found)} all know it; name one of them: {override} {'|'.join(found)}")
    known = "|".join(name for name in readers if hasattr(readers[name], "index"))
    raise UsageError(
        f"{root}: no reader knows its layout for certain; name one of them: {override} {known}; or put a labels.csv "
        "there with the columns patient and image (view, phase and mask where they are known)"
    )


def opened(
    root: Path,
    reader: str | None = None,
    settings: Sequence[str] = (),
    readers: Registry = READERS,
    *,
    override: str = "--reader",
) -> tuple[str, Any]:
    """Return name and config of the reader of `root`: the one named, or the only one that recognises the folder.

    A reader that is not named takes from the folder what it obviously says (`obvious`), such as the columns of a table;
    `settings`, NAME=VALUE, come after that and win.

    Raises:
        UnreadableStudy: `root` is no folder.
        UsageError: as of `recognise`; a setting that the reader does not have; a reader of no folder.
    """
    if not root.is_dir():
        raise UnreadableStudy(str(root), "is not a folder")
    name = recognise(root, readers, override=override) if reader is None else reader
    obvious = getattr(readers[name], "obvious", None) if name in list(readers) else None
    if name in list(readers) and not hasattr(readers[name], "index"):
        raise UsageError(f"{override} {name} reads no folder")
    said = {setting.partition("=")[0] for setting in settings}
    taken = [s for s in (obvious(root) if obvious else ()) if s.partition("=")[0] not in said]
    place = f"root={json.dumps(str(root))}"
    return name, compose_part(readers, name, [place, *taken, *settings])
