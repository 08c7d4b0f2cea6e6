"""What the guides and the service files say exists: commands, options, tests, time-outs, words and exit codes."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
import yaml

from client.site import SITE_FILE, Site
from learning.codes import Code
from pericard.cli import app
from pericard.errors import Exit
from pericard.site import default_policy

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "cohorts", "conf", "evaluation", "learning", "pericard", "privacy", "server", "synthesis")
NOT_DEPLOYED = (  # of simulations, of looking at metrics, of certificates and lists
    "server.simulation.", "server.superlink.START_", "server.superlink.GRACE_",
    "pericard.metrics.", "evaluation.revocation.", "evaluation.statement.",
)  # fmt: skip
GUIDES = ("docs/hospital.md", "docs/coordinator.md", "docs/threat-model.md", "deploy/README.md")


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def written(path: str) -> Iterator[str]:
    """Yield the commands of a guide that are written out whole."""
    for block in re.findall(r"```sh\n(.*?)```", text(path), re.DOTALL):
        yield from (line for line in block.splitlines() if line.startswith("pericard "))


def mentioned(path: str) -> Iterator[str]:
    """Yield the commands that stand in the midst of a sentence, where arguments may be missing."""
    for words in re.findall(
        r"`(pericard [^`]*|site [a-z]+[^`]*)`", re.sub(r"```.*?```", "", text(path), flags=re.DOTALL)
    ):
        yield words if words.startswith("pericard ") else f"pericard {words}"


def services() -> Iterator[str]:
    """Yield the commands of the service files."""
    for unit in sorted((ROOT / "deploy").glob("*.service")):
        for line in re.findall(r"/bin/pericard ([^'\n]*)", unit.read_text(encoding="utf-8")):
            yield f"pericard {re.sub(r'[$][(].*?[)]', 'run', line)}"
    for service in yaml.safe_load(text("deploy/compose.yaml"))["services"].values():
        yield shlex.join(["pericard", *service["command"]])


def parse(line: str, *, whole: bool) -> None:
    """Parse a command as the command line would, without running it or looking for its files."""
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command, info_name="pericard")
    while isinstance(command, click.Group) and words:
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{line}: there is no command {name!r}"
        command = found
    if isinstance(command, click.Group):
        assert not whole, line
        return
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            parameter.type.exists = False
    try:
        command.make_context("pericard", words, parent=context)
    except click.MissingParameter:
        if whole:
            raise


@pytest.mark.parametrize("line", sorted({*(line for guide in GUIDES for line in written(guide)), *services()}))
def test_every_command_that_is_written_out_can_be_given(line: str) -> None:
    parse(line, whole=True)


@pytest.mark.parametrize("line", sorted({line for guide in GUIDES for line in mentioned(guide)}))
def test_every_command_that_is_mentioned_exists_with_its_options(line: str) -> None:
    parse(line, whole=False)


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text("docs/threat-model.md"))
    assert len(named) > 30
    assert [pair for pair in named if f"def {pair[1]}(" not in text(f"tests/{pair[0]}")] == []


def constants() -> set[str]:
    """Return every piece of text in the sources, strings written in parts joined, and every name."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
                elif isinstance(node, ast.Name):
                    found.add(node.id)
    return found


def test_every_word_that_a_hospital_looks_up_at_night_is_one_that_the_program_says() -> None:
    table = text("docs/hospital.md").partition("## At two in the morning")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    phrases = [phrase for cell in cells for phrase in re.findall(r"`([^`]+)`", cell)]
    assert len(phrases) > 20
    said = "\0".join(constants())
    unsaid = [part for phrase in phrases for part in phrase.split("…") if part.strip("() ") and part not in said]
    assert unsaid == []


@pytest.mark.parametrize("guide", GUIDES)
def test_every_exit_code_that_is_named_exists(guide: str) -> None:
    named = {int(code) for code in re.findall(r"exit(?:s| code)s? (\d+)", text(guide))}
    assert named <= set(Exit)


def test_the_time_outs_of_the_table_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([\w.]+)\.([A-Z_]+)` \| ([\d.]+) ", text("docs/coordinator.md"), re.MULTILINE)
    assert len(rows) > 8
    for module, name, value in rows:
        assert numbers(ROOT / f"{module.replace('.', '/')}.py").get(name) == float(value), f"{module}.{name}"


def test_no_time_out_of_a_deployment_is_missing_from_the_table() -> None:
    said = set(re.findall(r"^\| `([\w.]+)` \| ", text("docs/coordinator.md"), re.MULTILINE))
    found = {
        f"{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}.{name}"
        for package in ("client", "server", "pericard", "evaluation", "learning")
        for path in (ROOT / package).rglob("*.py")
        for name in numbers(path)
        if name.endswith(("SECONDS", "_DAYS", "SECONDS_AT_END"))
    }
    elsewhere = {name for name in found if name.startswith(NOT_DEPLOYED)}
    assert sorted(found - said - elsewhere) == []


def test_flower_takes_a_silent_node_for_gone_after_as_long_as_the_table_says() -> None:
    from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, HEARTBEAT_PATIENCE

    assert HEARTBEAT_DEFAULT_INTERVAL * HEARTBEAT_PATIENCE == 60


def numbers(path: Path) -> dict[str, float]:
    """Return the numbers that a module gives to names, alone or among others."""
    found: dict[str, float] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            (target,) = node.targets
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for one, value in zip(targets, values, strict=False):
                if isinstance(one, ast.Name) and isinstance(value, ast.Constant) and type(value.value) in (int, float):
                    found[one.id] = float(value.value)
    return found


def test_the_codes_of_a_refusal_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \((\d+)\) \|", text("docs/hospital.md"), re.MULTILINE)
    assert {name: int(number) for name, number in rows} == {code.name: code.value for code in Code}


def test_the_roster_of_the_guide_is_one_that_a_site_reads(tmp_path: Path) -> None:
    cohort = {"reader": "phantom", "subjects": 8}
    site = Site.create(tmp_path / "s", name="st-elsewhere", cohort=cohort, public_subjects=8, policy=default_policy())
    (snippet,) = re.findall(r"```yaml\n(.*?)```", text("docs/hospital.md"), re.DOTALL)
    told = yaml.safe_load((site.folder / SITE_FILE).read_text())
    told["policy"] |= yaml.safe_load(snippet)
    (site.folder / SITE_FILE).write_text(yaml.safe_dump(told))
    read = Site(site.folder).policy.secure_aggregation
    assert site.name in read.roster
    assert len(read.roster) == read.min_sites == 3


def test_every_guide_is_found_from_the_front_page() -> None:
    assert [guide for guide in GUIDES if guide not in text("README.md")] == []


@pytest.mark.parametrize("guide", [*GUIDES, "README.md"])
def test_every_link_leads_somewhere(guide: str) -> None:
    here = (ROOT / guide).parent
    targets = re.findall(r"\]\(([^)#:]+)\)", text(guide))
    assert [target for target in targets if not (here / target).exists()] == []
