"""The small text files `key: value` that lie beside CAMUS and ACDC patients, as a row whose cells are checked."""

from collections.abc import Collection
from pathlib import Path

from cohorts.decode import reasons
from cohorts.table import Row

BYTES_MAX = 2**16


def read_cfg(path: Path, keys: Collection[str]) -> Row:
    """Return the values of `keys`, "" where the file does not have one or says NaN; other keys are not looked at.

    Raises:
        UnreadableStudy: no such file, too large, or it is not text of this kind.
    """
    with reasons(path):
        with path.open("rb") as file:
            text = file.read(BYTES_MAX + 1)
        if len(text) > BYTES_MAX:
            raise ValueError(f"has more than {BYTES_MAX} bytes")
        said = [line.partition(":") for line in text.decode("utf-8-sig").splitlines() if line.strip()]
        if not all(colon for _, colon, _ in said):
            raise ValueError("has a line without a colon; lines must be key: value")
        cells = {key.strip(): value.strip() for key, _, value in said}
        return Row(where=str(path), cells={k: v if (v := cells.get(k, "")).lower() != "nan" else "" for k in keys})
