import getpass
import json
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation import provenance
from evaluation.predicate import Repro
from evaluation.provenance import PACKAGES, ScatteredCode, code_digest, code_root, collect, digest_of, without_path
from evaluation.schema import decode, encode

ROOT = Path(__file__).parents[2]


def tree(folder: Path) -> Path:
    for package in PACKAGES:
        (folder / package / "inner").mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
        (folder / package / "inner" / "part.py").write_text(f"x = {package!r}\n")
    (folder / "conf" / "config.yaml").write_text("a: 1\n")
    return folder


def test_our_packages_share_one_root() -> None:
    assert code_root() == ROOT
    assert code_digest() == digest_of(ROOT)


def test_a_foreign_package_in_front_of_ours_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign_evaluation").mkdir()
    (tmp_path / "foreign_evaluation" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScatteredCode, match="'conf' and 'foreign_evaluation' come from different folders"):
        code_root(("conf", "foreign_evaluation"))
    with pytest.raises(ScatteredCode, match="'nowhere_at_all' lies in 0 folders"):
        code_root(("conf", "nowhere_at_all"))


def test_the_digest_follows_names_and_content_and_nothing_else(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    (two / "conf" / "__pycache__").mkdir()
    (two / "conf" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (two / "patients.json").write_text("{}")
    (two / "client" / "notes.txt").write_text("x")
    assert digest_of(one) == digest_of(two)
    changes = {
        "content": lambda f: (f / "privacy/inner/part.py").write_text("x = 'Privacy'\n"),
        "configuration": lambda f: (f / "conf/config.yaml").write_text("a: 2\n"),
        "name": lambda f: (f / "server/inner/part.py").rename(f / "server/inner/parts.py"),
        "addition": lambda f: (f / "client/extra.py").write_text(""),
    }
    digests = {digest_of(one)}
    for name, change in changes.items():
        change(tree(tmp_path / name))
        digests.add(digest_of(tmp_path / name))
    assert len(digests) == 1 + len(changes)


def test_provenance_names_no_machine_no_person_and_no_path() -> None:
    repro = collect(
        seeds={"sample": 7},
        config_digest="c",
        model_digest="m",
        determinism_level="bytes",
        replay=["pericard", "simulate", f"cohort.root={Path.home()}", "--out", str(ROOT / "out"), "budget.epsilon=4"],
    )
    assert repro.replay_command == "pericard simulate cohort.root=PATH --out PATH budget.epsilon=4"
    text = json.dumps(encode(repro))
    names = {socket.gethostname(), platform.node(), str(Path.home()), str(ROOT), sys.prefix}
    assert [name for name in names if len(name) > 3 and name in text] == []
    assert f'"{getpass.getuser()}"' not in text
    assert decode(Repro, json.loads(text)) == repro


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("simulate", "simulate"),
        ("cohort.root=../shared/data", "cohort.root=../shared/data"),
        ("/home/jane/data", "PATH"),
        ("cohort.root=/home/jane/data", "cohort.root=PATH"),
        ("--out=~jane/x", "--out=PATH"),
        (r"cohort.root=C:\Users\jane", "cohort.root=PATH"),
        (r"\\server\share", "PATH"),
    ],
)
def test_absolute_paths_are_left_out_of_the_replay_command(word: str, kept: str) -> None:
    assert without_path(word) == kept


def test_versions_are_those_installed_and_a_missing_library_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "LIBRARIES", ("numpy", "no-such-library"))
    import numpy as np

    found = provenance.versions()
    assert found == {"python": platform.python_version(), "numpy": np.__version__, "no-such-library": "absent"}


def test_a_commit_is_named_only_if_the_code_is_as_committed(tmp_path: Path) -> None:
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    folder = tree(tmp_path)
    assert provenance._commit(folder) is None
    git = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x", "--no-verify"]):
        subprocess.run([*git, *words], check=True)
    assert len(provenance._commit(folder) or "") == 40
    (folder / "conf" / "config.yaml").write_text("a: 3\n")
    assert provenance._commit(folder) is None
