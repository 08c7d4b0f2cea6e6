import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.readers import READERS
from cohorts.study import Origin, UnreadableStudy
from evaluation import certificate
from evaluation.certificate import CERTIFICATE, REPORT, TRUST
from pericard.export import command
from synthesis import release
from synthesis.export import LAYOUTS
from synthesis.manifest import MANIFEST, Manifest
from tests.certified import Certified, certify, statement
from tests.synthesis.test_export import frames


@pytest.fixture
def made(tmp_path: Path) -> Certified:
    """What `pericard simulate` leaves: a release of three subjects, signed by three sites."""
    bare = tmp_path / "bare"
    manifest = release.write(bare, frames(), origin=Origin.SYNTHETIC)
    now = datetime.now(UTC)
    certified = certify(tmp_path / "X", issued=now)
    for path in sorted((certified.folder / "release").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (certified.folder / "release").rmdir()
    bare.rename(certified.folder / "release")
    documents = {REPORT: (certified.folder / REPORT).read_bytes()}
    certified.resign(statement(subject=certificate.subjects(manifest, documents), issued=now))
    return certified


def export(folder: Path, out: Path, layout: str = "plain", **options: object) -> int:
    return command(folder, layout=layout, out=out, **{"as_json": False, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "acdc"])
def test_a_certified_release_is_exported_with_its_cards(
    layout: str, made: Certified, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "somewhere" / "out"
    assert export(made.folder, out, layout) == 0
    manifest = Manifest.parse((out / MANIFEST).read_bytes())
    assert not manifest.compare(out)
    assert {"README.md", "DATASHEET.md", "croissant.json"} <= {entry.path for entry in manifest.files}
    assert "Verdict of its certificate: **PASS**" in (out / "README.md").read_text()
    assert "license: other\nlicense_name: CC BY 4.0" in (out / "README.md").read_text()
    assert f"{len(manifest.files)} files as {layout}, from 6 clips" in capsys.readouterr().out


def test_what_echonet_dynamic_holds_is_read_by_the_reader_of_that_layout(made: Certified, tmp_path: Path) -> None:
    assert export(made.folder, tmp_path / "out", "echonet-dynamic") == 0
    reader = READERS["echonet_dynamic"]
    assert reader.recognises(tmp_path / "out")
    cohort = reader(root=str(tmp_path / "out"), origin="synthetic").read(pseudonyms=Pseudonyms(b"k" * 32))
    assert len(cohort.subjects) == 3


def test_a_plain_export_is_a_release_again(made: Certified, tmp_path: Path) -> None:
    assert export(made.folder, tmp_path / "out") == 0
    for folder in (made.folder, tmp_path / "out"):
        assert READERS["release"].recognises(folder)
    pixels = [
        [clip.pixels.tobytes() for s in cohort.subjects for study in cohort.of(s) for clip in study.clips]
        for folder in (made.folder, tmp_path / "out")
        if (cohort := READERS["release"](root=str(folder)).read(pseudonyms=Pseudonyms(b"k" * 32)))
    ]
    assert pixels[0] == pixels[1]
    assert len(pixels[0]) == 6


def test_an_export_is_the_same_every_time(made: Certified, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert export(made.folder, tmp_path / name, "camus") == 0
    assert (tmp_path / "one" / MANIFEST).read_bytes() == (tmp_path / "two" / MANIFEST).read_bytes()


def test_machines_get_one_document(made: Certified, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(made.folder, tmp_path / "out", "echonet-dynamic", as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["clips"], said["licence"]) == (True, 6, "CC BY 4.0")
    assert said["certificate"].startswith(str(datetime.now(UTC).year))
    assert "3 clips of other views are left out." in said["notes"]


def test_a_bare_release_is_exported_and_the_cards_say_that_it_is_bare(
    made: Certified, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(made.folder / "release", tmp_path / "out") == 0
    assert "came without a certificate" in (tmp_path / "out" / "README.md").read_text()
    assert "No licence is stated; --license states one." in capsys.readouterr().out
    assert export(made.folder / "release", tmp_path / "licensed", licence="CC0-1.0") == 0
    assert "license: cc0-1.0" in (tmp_path / "licensed" / "README.md").read_text()


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("harm", ["changed", "removed", "added"])
def test_a_file_that_is_not_as_signed_is_named_and_nothing_is_written(
    harm: str, bare: bool, made: Certified, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made.folder / "release" / "images" / "000003.png"
    if harm == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    elif harm == "removed":
        path.unlink()
    else:
        path.with_name("stray.png").write_bytes(b"stray")
    folder = made.folder / "release" if bare else made.folder
    assert export(folder, tmp_path / "deep" / "out") == 6
    said = capsys.readouterr().err
    assert ("stray.png" if harm == "added" else "images/000003.png") in said
    assert "Traceback" not in said
    assert not (tmp_path / "deep").exists()


def test_machines_are_told_what_differs(made: Certified, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made.folder / "release" / "labels.csv").write_text("patient\n")
    assert export(made.folder, tmp_path / "out", as_json=True) == 6
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["kind"], said["differs"]) == (False, "FilesDiffer", ["release/labels.csv"])


def test_a_certificate_that_was_edited_vouches_for_nothing(made: Certified, tmp_path: Path) -> None:
    path = made.folder / CERTIFICATE
    path.write_bytes(path.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1))
    assert export(made.folder, tmp_path / "out") == 6
    assert not (tmp_path / "out").exists()


def test_an_expired_certificate_vouches_for_nothing(
    made: Certified, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = certificate.parse(made.envelope.payload).subject
    made.resign(statement(subject=subject, issued=datetime.now(UTC) - timedelta(days=500)))
    assert export(made.folder, tmp_path / "out") == 6
    assert "expired" in capsys.readouterr().err


def test_a_certificate_that_cannot_be_checked_is_not_believed(made: Certified, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    (made.folder / TRUST).rename(keys)
    with pytest.raises(click.UsageError, match="--trust"):
        export(made.folder, tmp_path / "out")
    assert export(made.folder, tmp_path / "out", trust=keys) == 0


def test_a_licence_other_than_the_signed_one_is_refused(made: Certified, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"contradicts the signed licence 'CC BY 4\.0'"):
        export(made.folder, tmp_path / "out", licence="MIT")


def test_a_release_that_does_not_fit_the_layout_is_refused_in_one_line(
    made: Certified, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(made.folder, tmp_path / "out", "acdc") == 4
    assert capsys.readouterr().err == (
        "pericard export: acdc holds short-axis views (SAX, PSAX) with ED and ES; this release has none\n"
    )
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_meant_is_a_mistake_of_usage(made: Certified, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder, layout, out, words in (
        (made.folder, "bids", tmp_path / "out", "known: echonet-dynamic, camus, acdc, plain, plain-npy, dicom"),
        (made.folder, "plain", tmp_path / "there", "exists already"),
        (made.folder, "plain", made.folder / "release" / "out", "lies in the release itself"),
        (tmp_path / "nothing", "plain", tmp_path / "out", "holds no release"),
    ):
        with pytest.raises(click.UsageError, match=words):
            export(folder, out, layout)


def test_a_release_of_something_else_than_synthetic_frames_is_unreadable(made: Certified, tmp_path: Path) -> None:
    bare = made.folder / "release"
    table = bare / "labels.csv"
    table.write_text(table.read_text().replace(",synthetic\n", ",real\n"))
    (bare / MANIFEST).write_bytes(Manifest.of(bare).canonical)
    with pytest.raises(UnreadableStudy, match="only 'synthetic' is exported"):
        export(bare, tmp_path / "out")
