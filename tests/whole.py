"""A whole campaign to be disturbed: trained, sampled, screened, assessed, attacked, certified and countersigned.

It is the smallest that ends with a certificate (`experiment=smoke`), over phantoms, under the policy that a hospital
begins with. All that is trained is charged, so nothing of it can be repeated at other sites: told again, sites answer
from their outboxes, and the weights and the released pictures must be the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from client.policy import Account
from evaluation import certificate
from evaluation.trust import Trust
from privacy.mechanism import Plan, plan_from_json
from server.campaign import Campaign
from server.stages.certify import COORDINATOR
from tests.hospitals import NAMES, hospital
from tests.verdicts import QUORUM, Scene

SUBJECTS, BEFORE_ASSESSMENT = 24, "screen"
ASKED = (
    "experiment=smoke", "assess.federated=false", f"sites.names=[{','.join(NAMES)}]", f"sites.quorum={QUORUM}",
)  # fmt: skip


@cache
def _whole() -> Campaign:
    from conf.compose import compose, to_json
    from pericard.simulate import groups
    from server import plan

    experiment, _ = compose(ASKED, groups=groups())
    return plan.campaign(experiment, run="run-1", out="", resolved=json.loads(to_json(experiment, groups=groups())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Scene):
    """The campaign; what is inherited about its size does not count."""

    phantoms: bool = True

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What is charged."""
        reserve, *_ = self.campaign(Path()).stages
        return tuple(plan_from_json(plan) for plan in reserve.settings["plans"])

    @property
    def charged(self) -> dict[str, tuple[str, int, int]]:
        """Return what the announcements begin with → their purpose, the steps of each, and how many are reserved."""
        stages = {stage.name: stage.settings for stage in self.campaign(Path()).stages}
        found = {}
        for plan in self.plans:
            way, _, name = plan.purpose.partition(".")
            if way == "train":
                found[plan.purpose] = (plan.purpose, stages[name]["steps"], stages[name]["rounds"])
            else:
                found[f"attack.attack.{stages['attack']['name']}.{plan.purpose}"] = (plan.purpose, 1, 1)
        return found

    @property
    def trained(self) -> dict[str, str]:
        """Return stage → its folder, of what is trained over the sites."""
        stages = enumerate(self.campaign(Path()).stages, 1)
        return {stage.name: f"{number:02d}-{stage.name}" for number, stage in stages if stage.do == "train"}

    def campaign(self, out: Path, *, noise: bool = True) -> Campaign:
        """Return the campaign that writes into `out`."""
        return replace(_whole(), run=self.run, out=str(out), seconds=self.seconds)

    def again(self, out: Path, *, noise: bool) -> tuple[Campaign, tuple[str, ...]]:
        """Return the campaign up to the pictures that are released, and which files of it must be the same."""
        told = self.campaign(out)
        names = [stage.name for stage in told.stages]
        first = told.stages[: names.index(BEFORE_ASSESSMENT) + 1]
        files = [f"campaign/{folder}/weights.safetensors" for folder in self.trained.values()]
        return replace(told, stages=first), (*files, f"campaign/*-{BEFORE_ASSESSMENT}/released.safetensors") * noise

    def ended(self, out: Path) -> list[str]:
        """Return what is wrong with the certificate: it must hold, signed by the coordinator and by a quorum."""
        try:
            trust = Trust.parse((out / certificate.TRUST).read_bytes())
            signers = set(certificate.verify(out, trust=trust, now=datetime.now(UTC)).signers)
        except (OSError, ValueError) as error:
            return [f"its certificate does not hold: {error}"]
        if COORDINATOR not in signers or len(signers & set(NAMES)) < QUORUM:
            return [f"its certificate is signed by {', '.join(sorted(signers))} alone"]
        return []

    def sites(self, root: Path, composition: str, *, approval: bool = False) -> list[Path]:
        """Make the hospitals; in every folder the same people fall into the same lots."""
        from pericard.site import default_policy

        account = Account(composition=composition)
        told: dict[str, Any] = {
            "allowed": replace(default_policy(), epsilon_cap=20.0, account=account, approval=approval),
            "public_subjects": SUBJECTS,
        }
        return [hospital(root, name, cohort=self.cohort(name), **told).folder for name in NAMES]

    def cohort(self, name: str) -> Mapping[str, Any]:
        """Return the people of a hospital."""
        return {"reader": "phantom", "subjects": SUBJECTS, "seed": NAMES.index(name), "site": "site-a"}
