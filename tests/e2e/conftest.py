"""One deployment for all that is asked of one: the campaign takes minutes."""

from collections.abc import Iterator

import pytest

from tests.e2e.deployment import ASKED, Deployment, deployed
from tests.e2e.line import phantoms

SUBJECTS = 60


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Return a deployment whose campaign was run once."""
    root = tmp_path_factory.mktemp("deployment")
    with deployed(root, lambda folder, seed: phantoms(folder, seed=seed, subjects=SUBJECTS), *ASKED) as found:
        yield found
