"""A SuperNode that has left its loop does not stay as a process that does nothing."""

import os
import subprocess
import sys
from pathlib import Path

from client import ending, node
from client.site import Site
from tests.hospitals import hospital

PROGRAM = """
import threading, time
def main():
    threading.Thread(target=time.sleep, args=(600,)).start()
    {last}
"""


def ended(folder: Path, last: str) -> "subprocess.CompletedProcess[str]":
    """Run a program whose last words are these while another thread of it lives on."""
    told = folder / "staying-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: staying\nVersion: 1\n")
    (told / "entry_points.txt").write_text("[console_scripts]\nstays = staying:main\n")
    (folder / "staying.py").write_text(PROGRAM.format(last=last))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-P", str(Path(ending.__file__).resolve()), "stays", "--superlink", "there"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_ends_with_the_words_of_what_ended_it(tmp_path: Path) -> None:
    done = ended(tmp_path, "raise RuntimeError('Server error 500')")
    assert done.returncode != 0
    assert "Server error 500" in done.stderr


def test_it_ends_when_it_has_nothing_more_to_do(tmp_path: Path) -> None:
    assert ended(tmp_path, "import sys; print(sys.argv[1:])").stdout == "['--superlink', 'there']\n"


def test_a_node_starts_its_supernode_so_and_is_still_known_by_its_name(tmp_path: Path) -> None:
    site = hospital(tmp_path, approval=True)
    (site.folder / "node" / "home").mkdir(parents=True)
    node._write_programs(Site(site.folder), "0" * 64)
    program = site.folder / "node" / "home" / "bin" / "flower-supernode"
    assert f"{Path(ending.__file__).resolve()} flower-supernode" in program.read_text()
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=120, check=False)
    assert "Flower" in shown.stdout
