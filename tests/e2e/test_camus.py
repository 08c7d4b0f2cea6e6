"""The same with real people: each of three hospitals holds a third of CAMUS (Leclerc et al. 2019), where it lies."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cohorts.deidentify import Pseudonyms
from cohorts.readers.manifest import Manifest
from evaluation import certificate
from evaluation.trust import Trust
from pericard.errors import Exit
from tests.e2e.deployment import ASKED, SITES, Deployment, deployed
from tests.e2e.line import NAMED, ROWS, Planted, values, written

ROOT = Path(__file__).parents[2].parent / "shared" / "data" / "camus_224"
TWINS = ["patient0033", "patient0068"]  # one person under two identifiers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(not (ROOT / "labels.csv").is_file(), reason="no real studies in ../shared/data"),
]


def third(folder: Path, k: int) -> Planted:
    """Write every third person of CAMUS into a hospital's folder, under a name that was planted."""
    cohort = Manifest(root=str(ROOT), same_subject=(TWINS,)).read(pseudonyms=Pseudonyms(bytes(32)))
    return written(folder, f"{NAMED}-{k}", (cohort.of(subject)[0] for subject in cohort.subjects[k :: len(SITES)]))


@pytest.fixture(scope="module")
def camus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("camus"), third, *ASKED, "assess.tasks=[recognition]") as found:
        yield found


def test_a_campaign_over_real_people_ends_with_a_certificate_that_all_three_countersigned(camus: Deployment) -> None:
    assert camus.verdict in {Exit.PASS, Exit.FAIL, Exit.INCONCLUSIVE}, camus.programs.log("coordinate")
    trust = Trust.parse((camus.out / "trust.json").read_bytes())
    assert set(SITES) <= set(certificate.verify(camus.out, trust=trust, now=datetime.now(UTC)).signers)
    camus.programs.must("verify", camus.out)
    assert sum(len(planted.names) for planted in camus.planted.values()) == 348


def test_no_name_and_no_row_of_a_real_picture_left_a_hospital(camus: Deployment) -> None:
    database = camus.root / "coordinator" / "link" / "state.db"
    for name, planted in camus.planted.items():
        frames = [path.read_bytes() for path in (camus.root / name / "frames").iterdir()]
        assert len(planted.found_in(*frames)) >= ROWS
        for line in (camus.line, camus.opened):
            assert planted.found_in(*line.up, *line.down) == set()
        assert planted.found_in(*values(database)) == set()
        for path in (camus.root / "coordinator").rglob("*"):
            assert not path.is_file() or planted.found_in(path.read_bytes()) == set(), path
