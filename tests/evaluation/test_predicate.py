import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

from evaluation.statement import Predicate

PAGE = (Path(__file__).parents[2] / "docs" / "certificate.md").read_text(encoding="utf-8")


def fields(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every field of the record `kind` and of the records in it."""
    for name, hint in typing.get_type_hints(kind).items():
        yield f"{prefix}{name}"
        for inner in (hint, *typing.get_args(hint)):
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                yield from fields(inner, f"{prefix}{name}.")


def test_the_page_explains_every_field_and_no_other() -> None:
    known = set(fields(Predicate))
    table = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.M) for name in re.findall(r"`([\w.]+)`", row)}
    headed = {name for line in re.findall(r"^### (.*)$", PAGE, re.M) for name in re.findall(r"`([\w.]+)`", line)}
    assert known - table - headed == {"contacts"}  # its two fields are explained in one row
    assert table - known - {"release", "release/manifest.json", "report.html", "differs"} == set()
