"""Files of every layout are damaged at random: a cohort is read or refused in one line, and never anything else."""

import importlib.util
import random
from contextlib import suppress
from pathlib import Path

import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.study import UnreadableStudy

BUILDERS = Path(__file__).parents[1] / "contracts" / "builders"
LAYOUTS = ("acdc", "acdc_hdf5", "camus", "echonet_dynamic", "echonet_lvh", "mnms", "release", "tmed2")
NAMES = Pseudonyms(b"the key of site a stays there")


def damaged(content, chance):
    """Return `content` with some bytes changed, cut, wiped or replaced."""
    some = bytearray(content)
    at = chance.randrange(len(some))
    match chance.choice(("change", "change", "cut", "wipe", "go on", "replace")):
        case "change":
            for _ in range(chance.randint(1, 8)):
                some[chance.randrange(len(some))] = chance.randrange(256)
        case "cut":
            del some[at:]
        case "wipe":
            some[at : at + 64] = bytes(len(some[at : at + 64]))
        case "go on":
            some += bytes(100)
        case "replace":
            some[:] = chance.randbytes(500)
    return bytes(some)


@pytest.fixture(params=LAYOUTS)
def config(request, tmp_path):
    spec = importlib.util.spec_from_file_location(f"hostile_{request.param}", BUILDERS / f"{request.param}.py")
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    return builder.build(tmp_path)


def read_or_refuse(config):
    assert config.recognises(Path(config.root)) in (True, False)
    assert all("\n" not in str(problem) for problem in config.index().all_problems())
    with suppress(UnreadableStudy):
        cohort = config.read(pseudonyms=NAMES)
        for subject in cohort.subjects:
            cohort.of(subject)


def test_a_damaged_folder_is_read_or_refused_in_one_line(config):
    files = sorted(path for path in Path(config.root).rglob("*") if path.is_file())
    chance = random.Random(0)  # noqa: S311
    for _ in range(40):
        path = chance.choice(files)
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, chance))
        read_or_refuse(config)
        path.write_bytes(whole)


def test_a_folder_in_the_place_of_a_file_is_no_crash(config):
    for path in sorted(path for path in Path(config.root).rglob("*") if path.is_file()):
        whole = path.read_bytes()
        path.unlink()
        path.mkdir()
        read_or_refuse(config)
        path.rmdir()
        path.write_bytes(whole)
