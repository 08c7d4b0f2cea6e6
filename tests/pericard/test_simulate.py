"""One command, from studies to a certificate: it verifies, it notices a changed byte, and it survives being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pericard.cli import run
from pericard.errors import Exit
from privacy.ledger import PrivacyLedger

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("smoke") / "out"
    assert run(["simulate", "experiment=smoke", "--json", "--out", str(out)]) in (Exit.FAIL, Exit.INCONCLUSIVE)
    return out


def _verdict(out: Path) -> str:
    return json.loads((out / "run.json").read_text())["verdict"]


def test_the_whole_campaign_leaves_the_machine_alone(tmp_path, no_network):
    run(["simulate", "experiment=smoke", "--json", "--out", str(tmp_path / "out")])
    assert no_network == []
    assert _verdict(tmp_path / "out") in ("FAIL", "INCONCLUSIVE")


def test_everything_that_was_promised_is_there(simulated):
    for name in ("release/labels.csv", "release/manifest.json", "certificate.json", "report.html", "run.json"):
        assert (simulated / name).is_file()
    assert b"<script" not in (simulated / "report.html").read_bytes()


def test_it_verifies(simulated):
    assert run(["verify", str(simulated)]) == Exit.PASS


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("release/images/000003.png", "release/images/000003.png"),
        ("release/manifest.json", "release/manifest.json"),
        ("report.html", "report.html"),
        ("certificate.json", "payload"),
    ],
)
def test_one_changed_byte_is_named(simulated, file, named, capsys):
    path = simulated / file
    good = path.read_bytes()
    at = good.index(b'"payload":"') + 40 if file == "certificate.json" else len(good) // 2
    other = b"A" if good[at : at + 1] != b"A" else b"B"
    path.write_bytes(good[:at] + other + good[at + 1 :])
    try:
        assert run(["verify", str(simulated)]) == Exit.INTEGRITY
        told = capsys.readouterr()
        assert named in told.out + told.err
    finally:
        path.write_bytes(good)


def test_the_release_is_read_back_by_the_manifest_reader(simulated):
    from cohorts.deidentify import Pseudonyms
    from cohorts.readers.manifest import Manifest

    cohort = Manifest(root=str(simulated / "release"), study="study", origin="synthetic").read(
        pseudonyms=Pseudonyms(b"0123456789abcdef")
    )
    assert len(cohort.subjects) >= 1


def test_killed_in_the_middle_it_resumes_to_the_same_epsilon_and_a_valid_certificate(tmp_path, simulated):
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from pericard.cli import main; main()", "simulate"]
    process = subprocess.Popen(
        [*command, "experiment=smoke", "--json", "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ.copy(),
        start_new_session=True,
    )
    spent_before = None
    for _ in range(3000):
        if list((out / "campaign").glob("04-generator/round.json")):
            break
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    spent_before = _spent(out)
    assert run(["simulate", "--resume", "--json", "--out", str(out)]) in (Exit.FAIL, Exit.INCONCLUSIVE)
    assert _spent(out) == spent_before == _spent(simulated)
    assert run(["verify", str(out)]) == Exit.PASS


def _spent(out: Path) -> list[tuple[float, float]]:
    found = []
    for folder in sorted((out / "sites").iterdir()):
        ledger = PrivacyLedger(folder / "ledger.db", epsilon_cap=8.0, delta_cap=1e-5)
        found.append(ledger.spent())
    return found
