import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pericard.cli import run
from pericard.errors import CODES, Exit, exit_code, one_line

HEAVY = ("torch", "flwr", "numpy", "hydra", "opacus", "monai", "pandas", "matplotlib", "scipy")


class Command(ModuleType):
    """A command that notes what it was called with and ends as the test says."""

    def __init__(self, name: str, ending: int | BaseException) -> None:
        super().__init__(name)
        self.ending, self.called = ending, ()
        for function in ("command", "verify", "train", "video"):
            setattr(self, function, self._note)
        self.Asked = dict

    def _note(self, *arguments: object, **named: object) -> int:
        self.called = (*arguments, *named.items())
        if isinstance(self.ending, BaseException):
            raise self.ending
        return self.ending


def _install(monkeypatch: pytest.MonkeyPatch, name: str, ending: int | BaseException = 0) -> Command:
    import pericard

    command = Command(f"pericard.{name}", ending)
    monkeypatch.setitem(sys.modules, command.__name__, command)
    monkeypatch.setattr(pericard, name, command, raising=False)
    return command


def _loaded_after(*arguments: str) -> tuple[str, list[str]]:
    """Run the command line in a process of its own; return what it printed and the heavy libraries it loaded."""
    program = (
        "import sys, json; from pericard.cli import run; code = run(sys.argv[1:]); "
        f"print(json.dumps([code, sorted(set({HEAVY!r}) & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    *shown, last = done.stdout.splitlines()
    code, loaded = json.loads(last)
    assert code == Exit.PASS
    return "\n".join(shown), loaded


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["simulate", "--help"], ["verify", "--help"], ["prior", "--help"], ["site", "ledger", "--help"]],
)
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    shown, loaded = _loaded_after(*arguments)
    assert "Usage: pericard" in shown
    assert loaded == []


def test_help_names_every_command_and_every_exit_code() -> None:
    shown, _ = _loaded_after("--help")
    codes = ("0 PASS", "1 FAIL", "2 usage", "3 INCONCLUSIVE", "4 refused", "5 unreadable", "6 integrity")
    unwrapped = " ".join(shown.split())
    assert [word for word in ("simulate", "verify", "prior", *codes) if word not in unwrapped] == []


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert run(["--version"]) == Exit.PASS
    assert capsys.readouterr().out == f"pericard {version('pericard')}\n"


USAGE = {
    "an unknown command": (["simulat", "--out", "x"], "Did you mean 'simulate'?"),
    "an unknown option": (["simulate", "--outt", "x"], "No such option '--outt'"),
    "a missing option": (["simulate"], "Missing option '--out'"),
    "a missing argument": (["verify"], "Missing argument 'DIR'"),
    "a file where a folder belongs": (["simulate", "--out", __file__], "is a file"),
}


@pytest.mark.parametrize("mistake", USAGE)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_2(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = USAGE[mistake]
    assert run(arguments) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_no_arguments_at_all_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == Exit.USAGE
    assert "simulate" in capsys.readouterr().out


def test_simulate_hands_everything_over_and_returns_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    command = _install(monkeypatch, "simulate", Exit.INCONCLUSIVE)
    code = run(["simulate", "budget.epsilon=4", "--out", "there", "seed=1", "--resume", "--json"])
    assert code == Exit.INCONCLUSIVE
    assert command.called == (["budget.epsilon=4", "seed=1"], Path("there"), True, True)


def test_verify_hands_everything_over_and_returns_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    command = _install(monkeypatch, "verify", Exit.INTEGRITY)
    given = {name: Path(f"{name}.json") for name in ("trust", "revocations", "kept", "supersedes", "release")}
    options = [word for name, path in given.items() for word in (f"--{name}", str(path))]
    assert run(["verify", "there", *options]) == Exit.INTEGRITY
    assert command.called == (Path("there"), given, ("as_json", False))


def test_prior_train_hands_everything_over(monkeypatch: pytest.MonkeyPatch) -> None:
    command = _install(monkeypatch, "prior")
    assert run(["prior", "train", "--out", "there"]) == Exit.PASS
    assert command.called == (Path("there"), "cpu")


def test_prior_video_hands_everything_over(monkeypatch: pytest.MonkeyPatch) -> None:
    command = _install(monkeypatch, "prior")
    assert run(["prior", "video", "--out", "there"]) == Exit.PASS
    assert command.called == (Path("there"),)


def test_ctrl_c_tells_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _install(monkeypatch, "simulate", KeyboardInterrupt())
    assert run(["simulate", "--out", "there"]) == Exit.STOPPED
    shown = capsys.readouterr().err
    assert "--resume" in shown
    assert "there" in shown
    assert shown.count("\n") == 1


def test_ctrl_c_elsewhere_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _install(monkeypatch, "verify", KeyboardInterrupt())
    assert run(["verify", "there"]) == Exit.STOPPED
    assert capsys.readouterr().err.strip() == "pericard: stopped"


def _raised(name: str) -> Exception:
    module, _, kind = name.rpartition(".")
    error = type(kind, (ValueError,), {"__module__": module, "__qualname__": kind})
    return type("Deeper", (error,), {})("what\nwhere \x1b[31mwhy")  # a subclass of what the table names


@pytest.mark.parametrize("name", CODES)
def test_a_known_mistake_is_one_line_and_its_own_code(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _install(monkeypatch, "verify", _raised(name))
    assert run(["verify", "there"]) == CODES[name]
    assert capsys.readouterr().err == "pericard: what where  [31mwhy\n"


@pytest.mark.parametrize("name", CODES)
def test_every_class_of_the_table_exists(name: str) -> None:
    module, _, kind = name.rpartition(".")
    found = getattr(pytest.importorskip(module), kind)
    assert issubclass(found, Exception)
    assert f"{found.__module__}.{found.__qualname__}" == name


@pytest.mark.parametrize(
    ("answer", "code"),
    [("UNREADABLE ref=1", Exit.UNREADABLE), ("REFUSED_BUDGET ref=1", Exit.REFUSED), ("", Exit.REFUSED)],
)
def test_a_lost_quorum_ends_as_the_site_that_left_says(answer: str, code: Exit) -> None:
    rounds = pytest.importorskip("server.rounds")
    assert exit_code(rounds.QuorumLost("train: 1 of 2 answered", {"site-a": answer})) == code


def test_a_folder_that_cannot_be_written_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _install(monkeypatch, "simulate", PermissionError(13, "Permission denied", "/there"))
    assert run(["simulate", "--out", "there"]) == Exit.USAGE
    assert capsys.readouterr().err == "pericard: /there: Permission denied\n"


@pytest.mark.parametrize("error", [ValueError("shapes differ"), ZeroDivisionError(), OSError("odd"), RuntimeError()])
def test_a_bug_shows_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _install(monkeypatch, "verify", error)
    assert run(["verify", "there"]) == Exit.BUG == exit_code(error)
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "this is a bug in pericard" in shown


def test_an_error_without_words_is_named_by_its_class() -> None:
    assert one_line(KeyError()) == "KeyError"
