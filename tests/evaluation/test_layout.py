import dataclasses
import json
from pathlib import Path

import pytest

from evaluation.layout import statement_schema
from evaluation.statement import Statement
from pericard.cli import run
from tests.certified import full, statement

FILE = Path(__file__).parents[2] / "docs" / "certificate.schema.json"
jsonschema = pytest.importorskip("jsonschema", reason="no JSON Schema validator here")


def errors(document: object) -> list[str]:
    return [e.json_path for e in jsonschema.Draft202012Validator(statement_schema()).iter_errors(document)]


def test_the_schema_beside_the_page_is_that_of_the_records(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--schema"]) == 0
    printed = capsys.readouterr().out
    assert FILE.read_text("utf-8") == printed, "write it anew: pericard verify --schema > docs/certificate.schema.json"
    jsonschema.Draft202012Validator.check_schema(json.loads(printed))


@pytest.mark.parametrize("stated", [statement(), full()], ids=["plain", "full"])
def test_what_is_signed_is_what_the_schema_says(stated: Statement) -> None:
    assert errors(json.loads(json.dumps(stated.to_json()))) == []


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("version", "1", "$.predicate.version"),
        ("verdict", "pass", "$.predicate.verdict"),
        ("more", 1, "$.predicate"),
        ("audits", [{"name": "x"}], "$.predicate.audits[0]"),
        ("dp", None, "$.predicate.dp"),
    ],
)
def test_what_is_no_certificate_is_refused_by_the_schema_and_by_the_reader(
    field: str, value: object, where: str
) -> None:
    document = json.loads(json.dumps(statement().to_json()))
    document["predicate"][field] = value
    assert where in errors(document)
    with pytest.raises(ValueError, match=field):
        Statement.from_json(document)


def test_a_full_certificate_survives_the_wire_and_uses_every_field() -> None:
    stated = full()
    assert Statement.from_json(json.loads(json.dumps(stated.to_json()))) == stated

    def unused(record: object, path: str) -> list[str]:
        kind = type(record)
        found = []
        for part in dataclasses.fields(kind):  # type: ignore[arg-type]
            held, name = getattr(record, part.name), f"{path}.{part.name}"
            if part.metadata.get("later") and held in (None, (), "", part.default):
                found.append(name)
            inner = held if isinstance(held, tuple) else (held,)
            found += [x for one in inner[:1] if dataclasses.is_dataclass(one) for x in unused(one, name)]
        return found

    assert unused(stated.predicate, "predicate") == [], "say something in tests.certified.full"
