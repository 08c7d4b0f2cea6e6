"""`pericard audit` from folders to a verdict, on simulated people."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from evaluation import certificate
from evaluation.trust import Trust
from pericard.cli import run
from pericard.errors import Exit
from privacy.planted import altered_copy

PEOPLE = 640


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Members, controls and a release of other people."""
    out = tmp_path_factory.mktemp("honest") / "rehearsal"
    assert run(["cohort", "rehearse", "--out", str(out), "--people", str(PEOPLE)]) == Exit.PASS
    return out


@pytest.fixture(scope="module")
def copier(honest, tmp_path_factory):
    """The same with altered copies of a twentieth of the members in the release."""
    out = tmp_path_factory.mktemp("copier") / "release"
    shutil.copytree(honest / "release", out)
    dice = np.random.default_rng(5)
    rows = table_of(honest / "members" / "labels.csv")
    people = sorted({row["patient"] for row in rows})
    with (out / "labels.csv").open("a") as table:
        for k, person in enumerate(dice.choice(people, len(people) // 20, replace=False)):
            row = next(row for row in rows if row["patient"] == person)
            pixels = np.asarray(Image.open(honest / "members" / row["image"]))
            Image.fromarray(altered_copy(pixels, level=1, rng=dice)).save(out / "images" / f"copy{k}.png")
            table.write(f"copy{k},,,images/copy{k}.png,\r\n")
    return out


def audited(capsys, release, out, *arguments):
    capsys.readouterr()
    code = run(["audit", str(release), "--out", str(out), *map(str, arguments), "--json"])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else {}, told.err


def verdicts(told):
    return {rule["rule"]: rule["verdict"] for rule in told["rules"]}


@pytest.fixture
def sides(honest):
    return ["--members", honest / "members", "--controls", honest / "controls"]


def test_a_release_alone_never_passes(honest, tmp_path, capsys):
    code, told, _ = audited(capsys, honest / "release", tmp_path / "out")
    assert (code, told["tier"], told["verdict"]) == (Exit.INCONCLUSIVE, "T0", "INCONCLUSIVE")
    assert "nothing can pass it" in told["allows"]
    assert verdicts(told)["disclosure"] == "INCONCLUSIVE"


def test_a_release_alone_fails_where_many_people_are_one_picture(few, tmp_path, capsys):
    shutil.copytree(few / "release", tmp_path / "release")
    images = tmp_path / "release" / "images"
    for k in (20, 40, 60):
        shutil.copy(images / "00000.png", images / f"{k:05d}.png")
    code, told, _ = audited(capsys, tmp_path / "release", tmp_path / "out")
    assert (code, told["tier"], verdicts(told)["twins"]) == (Exit.FAIL, "T0", "FAIL")


def test_with_members_the_likenesses_are_listed_for_the_auditor_alone(copier, honest, tmp_path, capsys):
    code, told, _ = audited(capsys, copier, tmp_path / "out", "--members", honest / "members")
    assert (code, told["tier"]) == (Exit.INCONCLUSIVE, "T1")
    listed = table_of(tmp_path / "out" / "private" / "matches.csv")
    likest = {row["released_file"].rsplit("/", 1)[1] for row in listed[:5]}
    assert all(name.startswith("copy") for name in likest)
    assert "must not leave" in (tmp_path / "out" / "private" / "DO_NOT_SHARE.txt").read_text()


def test_the_very_picture_of_a_member_fails_without_any_control(honest, tmp_path, capsys):
    shutil.copytree(honest / "release", tmp_path / "release")
    image = Image.open(honest / "members" / "images" / "00000.png")
    image.save(tmp_path / "release" / "images" / "00000.png")
    code, told, _ = audited(capsys, tmp_path / "release", tmp_path / "out", "--members", honest / "members")
    assert (code, verdicts(told)["copies"]) == (Exit.FAIL, "FAIL")


def test_copies_of_a_twentieth_of_the_members_fail_where_a_lot_decided_who_is_one(copier, sides, tmp_path, capsys):
    code, told, _ = audited(capsys, copier, tmp_path / "out", *sides, "--split", "random")
    assert (code, told["tier"], told["verdict"]) == (Exit.FAIL, "T3", "FAIL")
    assert verdicts(told)["disclosure"] == "FAIL"


def test_without_a_lot_there_is_no_bound_and_no_pass(honest, sides, tmp_path, capsys):
    code, told, _ = audited(capsys, honest / "release", tmp_path / "out", *sides)
    assert (code, told["tier"]) == (Exit.INCONCLUSIVE, "T2")
    assert verdicts(told)["disclosure"] == "INCONCLUSIVE"


def test_other_people_do_not_fail_and_the_power_is_stated(honest, sides, tmp_path, capsys):
    code, told, _ = audited(capsys, honest / "release", tmp_path / "out", *sides, "--split", "random")
    assert code in (Exit.PASS, Exit.INCONCLUSIVE)
    assert "FAIL" not in verdicts(told).values()
    assert 0 < told["smallest_leak"] <= 0.05
    out = tmp_path / "out"
    trust = Trust.parse((out / "trust.json").read_bytes())
    envelope = certificate.Envelope.parse((out / "certificate.json").read_bytes())
    assert certificate.authenticate(envelope, trust=trust) == ("auditor",)
    assert certificate.parse(envelope.payload).predicate.basis.tier == "T3"


def test_the_certificate_of_an_audit_is_verified_against_the_release_wherever_it_lies(honest, tmp_path, capsys):
    shutil.copytree(honest / "release", tmp_path / "release")
    audited(capsys, tmp_path / "release", tmp_path / "out")
    verify = ["verify", str(tmp_path / "out"), "--release", str(tmp_path / "release"), "--json"]
    assert run(verify) == Exit.PASS
    assert json.loads(capsys.readouterr().out)["signers"] == ["auditor"]
    (tmp_path / "release" / "images" / "00003.png").unlink()
    assert run(verify) == Exit.INTEGRITY
    assert json.loads(capsys.readouterr().out)["differs"] == ["release/images/00003.png"]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A small rehearsal, for what does not hang on numbers."""
    out = tmp_path_factory.mktemp("few") / "rehearsal"
    assert run(["cohort", "rehearse", "--out", str(out), "--people", "64", "--seed", "3"]) == Exit.PASS
    return out


def folders(root):
    return [root / "release", "--members", root / "members", "--controls", root / "controls"]


def one_line(capsys, out, *arguments):
    release, *others = arguments
    code, told, err = audited(capsys, release, out, *others)
    assert told == {}
    assert err.startswith("pericard: ")
    assert err.count("\n") == 1, err
    return code, err


def test_controls_of_another_scanner_are_told_apart_without_the_release_and_nothing_follows(few, tmp_path, capsys):
    from cohorts.phantom.simulate import stills
    from pericard import rehearsal

    strangers = stills(40, seed=9, size=64, style="site-c")
    rehearsal._write(tmp_path / "controls", strangers, "stranger", range(40))
    sides = ["--members", few / "members", "--controls", tmp_path / "controls", "--split", "random"]
    code, told, _ = audited(capsys, few / "release", tmp_path / "out", *sides)
    assert (code, told["tier"]) == (Exit.INCONCLUSIVE, "T3")
    assert {verdicts(told)[rule] for rule in ("disclosure", "mia.auc", "mia.tpr1", "risk")} == {"INCONCLUSIVE"}
    assert "can be told apart without the release" in told["nothing_follows"]
    assert "can be told apart without the release" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_nothing_of_a_patient_is_in_any_file_but_the_private_ones(few, tmp_path, capsys):
    name = "Planted^Patient^Nameless"
    for side in ("members", "controls"):
        shutil.copytree(few / side, tmp_path / name / side)
        table = tmp_path / name / side / "labels.csv"
        table.write_text(table.read_text().replace("person", f"{name}-{side}-").replace("images/", f"{name}/"))
        (tmp_path / name / side / "images").rename(tmp_path / name / side / name)
    sides = ["--members", tmp_path / name / "members", "--controls", tmp_path / name / "controls"]
    _, told, _ = audited(capsys, few / "release", tmp_path / "out", *sides)
    assert name not in json.dumps(told)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    holding = {path.relative_to(tmp_path / "out").as_posix() for path in files if name.encode() in path.read_bytes()}
    assert holding == {"private/matches.csv"}
    assert (tmp_path / "out" / "private").stat().st_mode & 0o077 == 0


def test_a_members_name_in_a_file_of_the_release_fails(few, tmp_path, capsys):
    shutil.copytree(few / "members", tmp_path / "members")
    table = tmp_path / "members" / "labels.csv"
    table.write_text(table.read_text().replace("person1,", "Kowalski^Jan^1961,"))
    shutil.copytree(few / "release", tmp_path / "release")
    (tmp_path / "release" / "notes.txt").write_text("drawn from kowalski^jan^1961\n")
    code, told, _ = audited(capsys, tmp_path / "release", tmp_path / "out", "--members", tmp_path / "members")
    assert (code, verdicts(told)["identifiers"]) == (Exit.FAIL, "FAIL")
    assert "kowalski" not in (tmp_path / "out" / "certificate.json").read_text().casefold()


def test_people_or_pictures_on_two_sides_are_refused(few, tmp_path, capsys):
    sides = ["--members", few / "members", "--controls", few / "members"]
    code, err = one_line(capsys, tmp_path / "out", few / "release", *sides)
    assert code == Exit.UNREADABLE
    assert "nobody may be on two sides" in err
    shutil.copytree(few / "members", tmp_path / "controls")
    table = tmp_path / "controls" / "labels.csv"
    table.write_text(table.read_text().replace("person", "other"))
    sides = ["--members", few / "members", "--controls", tmp_path / "controls"]
    assert "bit for bit" in one_line(capsys, tmp_path / "out", few / "release", *sides)[1]


@pytest.mark.parametrize("side", ["release", "members"])
def test_what_cannot_be_read_is_said_in_one_line(side, few, tmp_path, capsys):
    shutil.copytree(few, tmp_path / "all")
    given = folders(tmp_path / "all")
    (tmp_path / "all" / side / "images" / "00001.png").write_bytes(b"no picture")
    code, err = one_line(capsys, tmp_path / "out", *given)
    assert code == Exit.UNREADABLE
    assert "00001.png" in err
    shutil.rmtree(tmp_path / "all" / side)
    code, err = one_line(capsys, tmp_path / "out", *given)
    assert code == Exit.UNREADABLE
    assert "is not a folder" in err


def test_a_layout_that_two_readers_know_is_refused_with_their_names(few, tmp_path, capsys):
    shutil.copytree(few / "members", tmp_path / "members")
    (tmp_path / "members" / "patient001").mkdir()
    (tmp_path / "members" / "patient001" / "Info.cfg").write_text("ED: 1\n")
    code, err = one_line(capsys, tmp_path / "out", few / "release", "--members", tmp_path / "members")
    assert code == Exit.USAGE
    assert "--members-reader acdc|manifest" in err
    chosen = ["--members", tmp_path / "members", "--members-reader", "manifest"]
    assert audited(capsys, few / "release", tmp_path / "out", *chosen)[0] == Exit.INCONCLUSIVE


def test_too_few_people_are_too_little_evidence_or_one_line(few, tmp_path, capsys):
    table = (few / "members" / "labels.csv").read_text().splitlines()
    for side in ("members", "controls"):
        rows = (few / side / "labels.csv").read_text().splitlines()
        shutil.copytree(few / side, tmp_path / side)
        (tmp_path / side / "labels.csv").write_text("\n".join([table[0], *rows[1:5]]))
    sides = ["--members", tmp_path / "members", "--controls", tmp_path / "controls", "--split", "random"]
    code, err = one_line(capsys, tmp_path / "out", few / "release", *sides)
    assert code == Exit.UNREADABLE
    assert "Traceback" not in err


def test_a_lot_needs_two_sides_and_a_result_is_never_overwritten(few, tmp_path, capsys):
    code, err = one_line(capsys, tmp_path / "out", few / "release", "--members", few / "members", "--split", "random")
    assert code == Exit.USAGE
    assert "needs both" in err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "audit.json").write_text("{}")
    code, err = one_line(capsys, tmp_path / "out", few / "release")
    assert code == Exit.USAGE
    assert "is in use" in err


def test_samples_in_one_folder_without_a_table_are_a_release(few, tmp_path, capsys):
    code, told, _ = audited(capsys, few / "release" / "images", tmp_path / "out", "--members", few / "members")
    assert (code, told["tier"]) == (Exit.INCONCLUSIVE, "T1")


def test_the_terminal_says_the_tier_the_rules_and_what_they_allow(few, tmp_path, capsys):
    assert run(["audit", str(few / "release"), "--out", str(tmp_path / "out")]) == Exit.INCONCLUSIVE
    shown = " ".join(capsys.readouterr().out.split())
    assert "Tier T0" in shown
    assert "INCONCLUSIVE overall" in shown
    assert "nothing can pass it" in shown
    assert "--members PATH" in shown


@pytest.fixture
def bundle(tmp_path):
    """A generator that nobody trained further, as somebody would hand it on."""
    from pericard import sources
    from synthesis import bundle as bundles

    bundles.write(tmp_path / "bundle", sources.public(moving=False).bundle, subjects=())
    return tmp_path / "bundle"


def smaller(few, out, people):
    """The same rehearsal with the first people of both sides alone."""
    for side in ("members", "controls"):
        shutil.copytree(few / side, out / side)
        header, *rows = (few / side / "labels.csv").read_text().splitlines()
        (out / side / "labels.csv").write_text("\n".join([header, *rows[: 4 * people]]))
    return ["--members", out / "members", "--controls", out / "controls"]


@pytest.mark.slow
def test_whoever_holds_the_weights_attacks_them_too(few, bundle, tmp_path, capsys):
    sides = [*smaller(few, tmp_path, 12), "--split", "random", "--weights", bundle]
    code, told, _ = audited(capsys, few / "release", tmp_path / "out", *sides)
    assert (code, told["tier"]) == (Exit.INCONCLUSIVE, "T4")
    (found,) = (record for record in told["suite"]["records"] if record["name"] == "flow_loss")
    assert found["auc"]["value"] == 0.5  # the public prior has seen none of them, and is held against itself


def test_weights_that_are_none_are_refused(few, tmp_path, capsys):
    sides = ["--members", few / "members", "--controls", few / "controls", "--weights", few / "release"]
    code, err = one_line(capsys, tmp_path / "out", few / "release", *sides)
    assert code == Exit.USAGE
    assert "holds neither a run nor a bundle" in err
