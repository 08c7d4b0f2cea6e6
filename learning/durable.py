"""Files that are whole or absent, whatever happens to the process or the power."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads; after return it survives a power loss, and it is never half there."""
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def append(path: Path, line: str) -> None:
    """Append a line, for a log that may lose its end; a line that was torn there spoils itself and not this one."""
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END) and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")
        file.write(f"{line}\n".encode())


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
