"""Logs that lose their end lose nothing else, and who follows one is not led astray."""

from pathlib import Path

from learning import durable
from server.progress import FILE, Follower, Journal


def test_a_torn_line_spoils_itself_and_not_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    durable.append(path, "one")
    path.write_text(path.read_text() + "tw")
    durable.append(path, "three")
    durable.append(path, "four")
    assert path.read_text() == "one\ntw\nthree\nfour\n"


def test_progress_is_followed_over_a_line_that_was_torn(tmp_path: Path) -> None:
    early = Follower(tmp_path)
    Journal(tmp_path)("train", 0.5, "half")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"stage": "tr')
    late = Follower(tmp_path)
    Journal(tmp_path)("train", 1.0, "done")
    assert list(early) == [("train", 0.5, "half"), ("train", 1.0, "done")]
    assert list(late) == [("train", 1.0, "done")]
