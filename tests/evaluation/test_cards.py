import csv
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
import yaml

from cohorts.study import Origin
from evaluation import cards
from evaluation.cards import Origins
from evaluation.policy import Lane
from synthesis import release
from synthesis.export import LAYOUTS, Exported, export
from tests.certified import EVIDENCE, SITES, empirical, formal, statement
from tests.synthesis.test_export import frames

ROOT = "ab" * 32
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")  # of mlcroissant


@pytest.fixture(autouse=True)
def quiet() -> None:
    """mlcroissant logs what is only recommended."""
    logging.getLogger("absl").setLevel(logging.ERROR)


def carded(folder: Path, origins: Origins, *, layout: str = "plain") -> Path:
    """A release of three subjects, exported with its cards."""
    views = (3, 1) if layout == "acdc" else (0, 1)
    release.write(folder / "release", frames(views=views), origin=Origin.SYNTHETIC)

    def finish(making: Path, exported: Exported) -> None:
        cards.write(making, origins, layout=layout, exported=exported)

    export(folder / "release", folder / "out", layout=layout, key=b"k" * 32, finish=finish)
    return folder / "out"


def certified(lane: Lane = Lane.FORMAL, **changes: Any) -> Origins:
    stated = statement(lane=lane, **changes)
    return Origins(root=ROOT, predicate=stated.predicate, signers=SITES, licence=stated.predicate.release.license)


def front(folder: Path) -> dict[str, Any]:
    head, _, _ = (folder / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    read = yaml.safe_load(head)
    assert isinstance(read, dict)
    return read


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mlcroissant_finds_no_error_in_any_layout_and_reads_every_table(
    layout: str, tmp_path: Path, no_network: list[object]
) -> None:
    out = carded(tmp_path, certified(), layout=layout)
    data = mlcroissant.Dataset(jsonld=out / "croissant.json")
    assert not data.metadata.issues.errors
    tables = sorted(out.glob("*.csv"))
    assert len(data.metadata.record_sets) == len(tables) > 0
    for table in tables:
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        records = list(data.records(table.stem))
        assert len(records) == len(rows)
        assert [name.partition("/")[2] for name in records[0]] == list(rows[0])


def test_croissant_states_where_the_data_come_from_and_what_they_are_not_for(tmp_path: Path) -> None:
    out = carded(tmp_path, certified())
    said = json.loads((out / "croissant.json").read_text())
    assert said["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    assert said["prov:wasDerivedFrom"][0]["@id"] == f"urn:pericard:release:{ROOT}"
    assert "ε = 6.5" in said["rai:personalSensitiveInformation"][0]
    assert "the public prior's people are covered by no ε" in said["rai:dataLimitations"]
    assert said["rai:dataUseCases"] == ["teaching segmentation", "Not for: diagnosis"]
    assert said["datePublished"] == "2031-05-04"
    assert said["license"] == "CC BY 4.0"  # as signed, though no identifier of SPDX


def test_digests_of_tables_are_those_of_the_files(tmp_path: Path) -> None:
    out = carded(tmp_path, certified())
    said = json.loads((out / "croissant.json").read_text())
    digests = [entry["sha256"] for entry in said["distribution"] if "sha256" in entry]
    assert digests == [hashlib.sha256((out / "labels.csv").read_bytes()).hexdigest()]


def test_a_table_that_was_changed_is_not_read(tmp_path: Path) -> None:
    out = carded(tmp_path, certified())
    table = out / "labels.csv"
    table.write_text(table.read_text().replace("ED", "ES"))
    with pytest.raises(mlcroissant.GenerationError, match=r"Download\(labels\.csv\)") as refused:
        list(mlcroissant.Dataset(jsonld=out / "croissant.json").records("labels"))
    assert "Hash" in str(refused.value.__cause__)


def test_the_front_matter_is_yaml_that_a_hub_reads(tmp_path: Path) -> None:
    read = front(carded(tmp_path, Origins(root=ROOT, licence="CC0-1.0")))
    assert read["license"] == "cc0-1.0"
    assert read["configs"] == [{"config_name": "labels", "data_files": "labels.csv"}]
    assert "synthetic" in read["tags"]


def test_a_licence_that_no_hub_knows_is_named_as_it_is(tmp_path: Path) -> None:
    read = front(carded(tmp_path, Origins(root=ROOT, licence='ours: "as agreed" # 3')))
    assert (read["license"], read["license_name"]) == ("other", 'ours: "as agreed" # 3')


def test_without_a_licence_none_is_stated(tmp_path: Path) -> None:
    out = carded(tmp_path, Origins(root=ROOT))
    assert front(out)["license"] == "unknown"
    assert "license" not in json.loads((out / "croissant.json").read_text())
    assert "No licence is stated" in (out / "README.md").read_text()
    assert "Licence: none is stated." in (out / "DATASHEET.md").read_text()


def test_a_release_without_a_certificate_says_so_first_and_claims_nothing(tmp_path: Path) -> None:
    out = carded(tmp_path, Origins(root=ROOT))
    text = (out / "README.md").read_text()
    assert "came without a certificate" in text
    assert "ε =" not in text + (out / "DATASHEET.md").read_text() + (out / "croissant.json").read_text()
    assert not mlcroissant.Dataset(jsonld=out / "croissant.json").metadata.issues.errors


def test_a_release_without_an_epsilon_of_its_own_is_given_none(tmp_path: Path) -> None:
    text = (carded(tmp_path, certified(Lane.EMPIRICAL)) / "README.md").read_text()
    assert "No ε covers this release" in text
    assert "The generator's own training has ε = 6.5" in text


def test_a_verdict_that_is_no_pass_stands_on_every_card(tmp_path: Path) -> None:
    out = carded(tmp_path, certified(findings=EVIDENCE[1:]))
    for name in ("README.md", "DATASHEET.md", "croissant.json"):
        assert "INCONCLUSIVE" in (out / name).read_text()


def test_the_datasheet_answers_every_section_of_gebru_et_al(tmp_path: Path) -> None:
    text = (carded(tmp_path, certified()) / "DATASHEET.md").read_text()
    for section in ("Motivation", "Composition", "Collection", "Preprocessing and labels", "Uses", "Distribution",
                    "Maintenance"):  # fmt: skip
        assert f"\n## {section}\n" in text
    for site in SITES:
        assert f"| {site} | 100 |" in text


def test_gaps_of_a_layout_stand_on_its_cards(tmp_path: Path) -> None:
    out = carded(tmp_path, certified(), layout="echonet-dynamic")
    for name in ("README.md", "DATASHEET.md", "croissant.json"):
        assert "3 clips of other views are left out." in (out / name).read_text()


def test_a_licence_of_several_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="printable line"):
        Origins(root=ROOT, licence="MIT\n---\nevil: yes")


def test_privacy_is_said_with_its_delta_and_its_unit() -> None:
    said = cards.privacy(statement().predicate)
    assert "ε = 6.5, δ = 1 × 10⁻⁵ per patient" in said
    assert formal().eps != empirical().eps
