"""What a coordinator proposes and a hospital approves: everything that will ever run, before any of it does.

A proposal names the code by digest, Flower's bundle of it by digest, and holds the whole campaign: the experiment,
every plan that will be charged, every stage. An approval says that one site's people have seen exactly that. Both are
JSON in one canonical form, so that their SHA-256 names them; who signed them is for `evaluation.envelope` to say.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from learning.schema import canonical

SCHEMA = "pericard.proposal/1"
APPROVAL = "pericard.approval/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A campaign as it is proposed.

    Attributes:
        code_digest: of the packages (`evaluation.provenance.code_digest`).
        bundle_digest: SHA-256 of the Flower bundle that nodes will be sent.
        campaign: the campaign as JSON, without the coordinator's folder.
    """

    code_digest: str
    bundle_digest: str
    campaign: Mapping[str, Any]

    @property
    def run(self) -> str:
        """Name under which sites charge."""
        return str(self.campaign["run"])

    @property
    def delta(self) -> float:
        """δ of the run."""
        return float(self.campaign["delta"])

    @property
    def experiment_digest(self) -> str:
        """SHA-256 of the experiment's canonical JSON."""
        return digest(self.campaign["experiment"])

    @property
    def digest(self) -> str:
        """SHA-256 of the proposal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def plans(self, site: str) -> tuple[Mapping[str, Any], ...]:
        """Return every plan that `site` will be asked to charge."""
        settings = next(s["settings"] for s in self.campaign["stages"] if s["name"] == "reserve")
        of = settings.get("of", {})
        return tuple(plan for plan in settings["plans"] if site in of.get(plan["purpose"], [site]))

    def to_json(self) -> str:
        """Return the proposal as canonical JSON; `Proposal.parse(p.to_json()) == p`."""
        return canonical({"schema": SCHEMA, **asdict(self)})

    @staticmethod
    def parse(text: str) -> "Proposal":
        """Read what `to_json` wrote; raises `ValueError`."""
        try:
            fields = json.loads(text)
            if fields.pop("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")  # noqa: TRY301
            proposal = Proposal(**fields)
            _ = (proposal.run, proposal.delta, proposal.experiment_digest, proposal.plans(""))
        except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
            raise ValueError(f"not a proposal: {error}") from error
        return proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """That one site approved one proposal.

    Attributes:
        site: its name.
        run, code_digest, bundle_digest, experiment_digest, plans_digest, delta: what was approved, and nothing else.
        proposal_digest: of the whole text that was shown.
        policy_digest: of the site's own file at that time; another policy asks for another approval.
        utc: when.
    """

    site: str
    run: str
    code_digest: str
    bundle_digest: str
    experiment_digest: str
    plans_digest: str
    delta: float
    proposal_digest: str
    policy_digest: str
    utc: str

    def to_json(self) -> str:
        """Return the approval as canonical JSON; `Approval.parse(a.to_json()) == a`."""
        return canonical({"schema": APPROVAL, **asdict(self)})

    @staticmethod
    def parse(text: str) -> "Approval":
        """Read what `to_json` wrote; raises `ValueError`."""
        try:
            fields = json.loads(text)
            if fields.pop("schema") != APPROVAL:
                raise ValueError(f"its schema is not {APPROVAL}")  # noqa: TRY301
            return Approval(**fields)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not an approval: {error}") from error

    def covers(
        self, *, run: str, code_digest: str, experiment_digest: str, plans: Sequence[Mapping[str, Any]], delta: float
    ) -> bool:
        """Say whether a request is what was approved, to the letter."""
        return (run, code_digest, experiment_digest, digest(list(plans)), delta) == (
            self.run, self.code_digest, self.experiment_digest, self.plans_digest, self.delta,
        )  # fmt: skip


def digest(document: Any) -> str:
    """Return the SHA-256 of a document's canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()
