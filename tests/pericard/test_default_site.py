"""What a hospital admits before its people have changed a word of `site.yaml`: every shipped experiment, or why not."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from client.admission import own_code
from client.dry_run import foresee
from client.policy import Policy
from client.site import SITE_FILE, Site
from cohorts.frames import BY_VIEW
from conf.compose import compose, to_json
from conf.schema import Classes
from learning.proposal import Proposal
from pericard.simulate import groups
from pericard.site import default_policy
from server import plan

EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml"))
ROOTS = {
    "camus": ["cohort.root=/srv/studies"],
    "lung": ["cohort.root=/srv/studies"],
    "short_axis": ["sites.cohorts.dijon.root=/srv/a", "sites.cohorts.toronto.root=/srv/b"],
}


def proposed(experiment: str, *overrides: str) -> tuple[Proposal, Classes]:
    """Return what `coordinate propose` would write, without its signature, and what its pictures are told apart by."""
    known = groups()
    found, _ = compose([f"experiment={experiment}", *ROOTS.get(experiment, []), *overrides], groups=known)
    campaign = plan.campaign(found, run="run-1", out="", resolved=json.loads(to_json(found, groups=known)))
    told = json.loads(campaign.to_json())
    return Proposal(code_digest=own_code(), bundle_digest=hashlib.sha256().hexdigest(), campaign=told), found.classes


def newcomer(root: Path, name: str, classes: Classes = BY_VIEW) -> Site:
    """Make a site as `site init` does."""
    cohort = {"reader": "phantom", "subjects": 8}
    return Site.create(
        root / name, name=name, cohort=cohort, public_subjects=100, policy=default_policy(), classes=classes
    )


def reasons(tmp_path: Path, proposal: Proposal, classes: Classes = BY_VIEW) -> tuple[str, ...]:
    """Return why a default site of the first name in the proposal would refuse it."""
    name = proposal.campaign["experiment"]["sites"]["names"][0]
    return foresee(newcomer(tmp_path, name, classes), proposal).refused


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_shipped_experiment_can_be_approved_or_says_which_line_to_change(experiment: str, tmp_path: Path) -> None:
    proposal, classes = proposed(experiment, "assess.federated=false")
    found = reasons(tmp_path, proposal)
    if (classes.of, classes.names) == (BY_VIEW.of, BY_VIEW.names):
        assert found == ()
        return
    assert found
    assert all("classes in site.yaml" in reason for reason in found)
    assert reasons(tmp_path / "told", proposal, classes) == ()


def test_what_has_no_noise_is_refused_and_says_which_line_would_allow_it(tmp_path: Path) -> None:
    (reference,) = reasons(tmp_path / "a", proposed("smoke")[0])
    assert "allow_non_dp_reference: false in site.yaml" in reference
    exact = reasons(tmp_path / "b", proposed("smoke", "assess.federated=false", "release.lane=EMPIRICAL")[0])
    assert exact
    assert all("allow_empirical: false in site.yaml" in reason for reason in exact)


def test_every_bound_that_is_exceeded_is_named_as_it_stands_in_the_file(tmp_path: Path) -> None:
    proposal, _ = proposed("smoke", "assess.federated=false")
    site = newcomer(tmp_path, "site-a")
    tight = replace(
        site.policy, epsilon_cap=0.1, delta_cap=1e-9, min_noise_multiplier=9.0, learners=(), tasks=(), attacks=(),
        generators=(), allow_scores=False,
    )  # fmt: skip
    told = yaml.safe_load((site.folder / SITE_FILE).read_text())
    told["policy"] = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(tight).items()}
    (site.folder / SITE_FILE).write_text(yaml.safe_dump(told))
    said = " ".join(foresee(Site(site.folder), proposal).refused)
    named = ("epsilon_cap", "delta_cap", "min_noise_multiplier", "learners", "tasks", "attacks", "generators")
    assert [line for line in (*named, "allow_scores") if line not in said] == []
    assert set(named) <= set(Policy.__slots__)
