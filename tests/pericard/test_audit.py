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
    assert "PASS" not in verdicts(told).values()


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
