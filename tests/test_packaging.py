"""What travels: the wheel that hospitals install and the bundle that Flower sends."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from shutil import copytree, ignore_patterns, which

import pytest

ROOT = Path(__file__).parent.parent
BUNDLED = ("conf", "cohorts", "privacy", "learning", "synthesis", "evaluation", "client", "server")
PACKAGES = (*BUNDLED, "pericard")
RESIDUE = ignore_patterns(
    ".*cache", ".venv", ".git", "__pycache__", "*.egg-info", ".hypothesis", "dist", "*.fab", "out", "outputs"
)
STRAYS = ("patients.json", "notes.md", "labels.csv", "export.yaml", "frames.npy")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout in which somebody left patients' files, at the root and in two packages."""
    folder = tmp_path_factory.mktemp("copy") / "pericard-copy"
    folder.mkdir()
    for package in PACKAGES:
        copytree(ROOT / package, folder / package, ignore=RESIDUE)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for place in (folder, folder / "cohorts", folder / "client", folder / "cohorts" / "readers"):
        for stray in STRAYS:
            (place / stray).write_text('["DOE^JANE 1957-03-01"]', "utf-8")
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, int]:
    """The files of the wheel, with their sizes."""
    out = tmp_path_factory.mktemp("wheel")
    _run(checkout, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out))
    return _listing(next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def bundle(checkout: Path) -> Mapping[str, int]:
    """The files of the Flower bundle, with their sizes."""
    flwr = which("flwr", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert flwr is not None
    _run(checkout, flwr, "build")
    return _listing(next(checkout.glob("*.fab")))


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def _listing(archive: Path) -> Mapping[str, int]:
    with zipfile.ZipFile(archive) as opened:
        return {entry.filename: entry.compress_size for entry in opened.infolist()}


def _expected(*suffixes: str, packages: tuple[str, ...]) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.name.endswith(suffixes) and "__pycache__" not in path.parts
    }


def _settings() -> dict[str, dict[str, object]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_wheel_holds_our_packages_and_nothing_else(wheel: Mapping[str, int]) -> None:
    expected = _expected(".py", "py.typed", ".yaml", ".safetensors", packages=PACKAGES)
    expected |= _expected(".json", packages=("synthesis",))
    ours = {name for name in wheel if ".dist-info/" not in name}
    assert ours == expected
    assert {name.split("/")[0] for name in ours} == set(PACKAGES)
    assert {"conf/config.yaml", "conf/experiment/camus.yaml", "conf/policy/default.yaml"} <= ours


def test_the_wheel_says_that_it_is_typed(wheel: Mapping[str, int]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel)


def test_the_wheel_carries_the_priors_and_stays_small(wheel: Mapping[str, int]) -> None:
    weights = {Path(name).name: size for name, size in wheel.items() if name.endswith(".safetensors")}
    names = {name.removesuffix(".safetensors") for name in weights}
    besides = {"latent_video_flow", "enlarger", "gamma", "identity"}
    assert names - besides == {"autoencoder", "distilled", "latent_flow", "view_classifier"}
    assert sum(weights.values()) <= 16 * 2**20


def test_the_bundle_holds_code_and_settings_and_nothing_else(bundle: Mapping[str, int]) -> None:
    expected = _expected(".py", packages=BUNDLED) | _expected(".yaml", packages=("conf",))
    assert set(bundle) - {".info/CONTENT"} == expected | {"pyproject.toml", "README.md", "LICENSE"}


def test_the_bundle_fits_through_flowers_door(bundle: Mapping[str, int]) -> None:
    assert sum(bundle.values()) <= 10 * 2**20


@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_file_rides_along_in_neither(wheel: Mapping[str, int], bundle: Mapping[str, int], stray: str) -> None:
    assert [name for name in (*wheel, *bundle) if name.endswith(f"/{stray}") or name == stray] == []


def test_the_allow_list_of_the_bundle_names_every_package_but_the_command_line() -> None:
    allowed = _settings()["tool"]["flwr"]["app"]["fab-include"]  # type: ignore[index]
    assert {name.split("/")[1] for name in allowed} == {*BUNDLED, "README.md", "LICENSE"}


def test_nobody_else_installs_our_package_names() -> None:
    owners = packages_distributions()
    assert {package: set(owners.get(package, ["pericard"])) for package in PACKAGES} == {
        package: {"pericard"} for package in PACKAGES
    }


def test_our_package_names_are_no_modules_of_the_standard_library() -> None:
    assert set(PACKAGES) & sys.stdlib_module_names == set()


def test_the_command_is_installed_under_its_name() -> None:
    (entry,) = (e for e in distribution("pericard").entry_points if e.group == "console_scripts")
    assert (entry.name, entry.value) == ("pericard", "pericard.cli:main")


def test_flower_is_pinned_to_one_minor_release() -> None:
    project = _settings()["project"]
    pins = [*project["dependencies"], *project["optional-dependencies"]["sim"]]  # type: ignore[misc, call-overload, index]
    flower = [pin for pin in pins if pin.startswith("flwr")]
    assert len(flower) == 2
    lows, highs = zip(*(re.findall(r"[<>]=?1\.(\d+)", pin) for pin in flower), strict=True)
    assert set(lows) == {lows[0]}
    assert set(highs) == {str(int(lows[0]) + 1)}


def test_no_source_file_reads_or_writes_a_pickle() -> None:
    call = re.compile(
        r"\btorch\.(load|save)\(|allow_pickle\s*=\s*True|weights_only\s*=\s*False|\bpickle\.\w+\(|\.read_pickle\("
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if call.search(line)
    ]
    assert found == []
