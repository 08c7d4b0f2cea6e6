"""The policy: which numbers must hold, on how many subjects, beside which controls. Fixed before anything is measured.

The very text of the policy and its digest are signed with the certificate: nobody can loosen a margin afterwards.
"""

import functools
import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

EXACT, LOWER, UPPER = "exact", "lcb95", "ucb95"
BOTH = "ci90"  # both one-sided bounds at once
BOUNDS = (EXACT, LOWER, UPPER, BOTH)
MAX_TEXT = 65_536
ONE_SIDED_95 = 0.90  # the two-sided level whose ends are one-sided 95 % bounds
NONINFERIOR = (
    "noninferior"  # written with a margin: the difference, oriented so that more is better, stays above -margin
)
EQUIVALENT = "equivalent"  # written with a margin: the difference lies between -margin and margin (two one-sided tests)


class Lane(StrEnum):
    """Whether the ε of the release itself is bounded, only that of the generator, or nothing."""

    FORMAL = "FORMAL"
    EMPIRICAL = "EMPIRICAL"
    NONE = "NONE"


class Op(StrEnum):
    """How a number is held against the threshold."""

    AT_MOST = "<="
    BELOW = "<"
    AT_LEAST = ">="
    ABOVE = ">"
    WITHIN = "|.|<"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of the policy.

    Attributes:
        id: name of the rule.
        metric: name of the finding it judges.
        op: how the bound is held against the threshold.
        threshold: the number to hold against, in the unit of the finding.
        bound: `exact` (no sampling error), `ucb95` or `lcb95` (one-sided 95 % bounds), `ci90` (both, for `|.|<`).
        min_n: fewest subjects on which the rule may pass.
        needs: controls that must have behaved, or the rule cannot pass.
        required: lanes in which the certificate hangs on this rule; elsewhere it is only reported.
        refutes: the rule is there to refute: it must be measured and must not fail, but where the measurement could
            not have noticed a fault, the certificate says so and does not hang on it.
        fail_code: word that a failure is reported by, for whoever has to stop something.
        says: the rule in a sentence.
    """

    id: str
    metric: str
    op: Op
    threshold: float
    bound: str
    min_n: int = 0
    needs: tuple[str, ...] = ()
    required: frozenset[Lane] = frozenset(Lane)
    refutes: bool = False
    fail_code: str = ""
    says: str = ""

    def __post_init__(self) -> None:
        if self.bound not in BOUNDS:
            raise ValueError(f"rule {self.id!r}: bound={self.bound!r} is none of {', '.join(BOUNDS)}")
        if not math.isfinite(self.threshold):
            raise ValueError(f"rule {self.id!r}: value={self.threshold} must be finite")
        if self.min_n < 0:
            raise ValueError(f"rule {self.id!r}: min_n={self.min_n} must be at least 0")
        if (self.op is Op.WITHIN) != (self.bound == BOTH):
            raise ValueError(f"rule {self.id!r}: {Op.WITHIN} is held against {BOTH}, which no other op is")
        proves_by_silence = (self.op in (Op.AT_MOST, Op.BELOW) and self.bound == LOWER) or (
            self.op in (Op.AT_LEAST, Op.ABOVE) and self.bound == UPPER
        )
        if proves_by_silence and not self.needs:
            raise ValueError(f"rule {self.id!r}: {self.op} on {self.bound} proves nothing without a control in `needs`")

    @property
    def confidence(self) -> float:
        """Two-sided level that a finding's interval must have at least."""
        return 0.0 if self.bound == EXACT else ONE_SIDED_95


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules, and the exact text they were read from."""

    name: str
    text: str
    rules: tuple[Rule, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @staticmethod
    @functools.lru_cache(maxsize=8)  # who verifies or compares certificates reads the same text again and again
    def parse(text: str) -> "Policy":
        """Read a policy from YAML; unknown, missing, doubled or mistyped entries are refused by name.

        Raises:
            ValueError: the text is no policy.
        """
        document = _yaml(text)
        if not isinstance(document, dict) or set(document) != {"name", "rules"}:
            raise ValueError("a policy has exactly the entries name and rules")
        name, lines = document["name"], document["rules"]
        if not isinstance(name, str) or not name:
            raise ValueError(f"name={name!r} must be text")
        if not isinstance(lines, list) or not lines:
            raise ValueError("rules must be a list of at least one rule")
        rules = tuple(_rule(line) for line in lines)
        ids = [rule.id for rule in rules]
        if doubled := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"two rules share an id: {', '.join(doubled)}")
        return Policy(name=name, text=text, rules=rules)

    @staticmethod
    def load(name: str) -> "Policy":
        """Return the policy shipped as `conf/policy/<name>.yaml`, or the one in the file at the path `name`.

        Raises:
            ValueError: there is no such policy, or it is malformed.
        """
        shipped = resources.files("conf").joinpath("policy", f"{name}.yaml")
        if name.isidentifier() and shipped.is_file():
            return Policy.parse(shipped.read_text(encoding="utf-8"))
        if not Path(name).is_file():
            raise ValueError(f"policy {name!r} is neither shipped ({', '.join(Policy.shipped())}) nor a file")
        return Policy.parse(Path(name).read_text(encoding="utf-8"))

    @staticmethod
    def shipped() -> tuple[str, ...]:
        """Return the names of the policies that come with the program."""
        folder = resources.files("conf").joinpath("policy")
        return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def _rule(line: object) -> Rule:
    if not isinstance(line, dict):
        raise ValueError(f"a rule is a mapping, not {line!r}")  # noqa: TRY004 - a file, not a caller
    entries = dict(line)
    name = _take(entries, "id", str, "a rule")
    where = f"rule {name!r}"
    written = _take(entries, "op", str, where)
    if written in (NONINFERIOR, EQUIVALENT):
        margin = float(_take(entries, "margin", float, where))
        if not margin > 0:
            raise ValueError(f"{where}: margin={margin} must be positive")
        op, threshold, bound = (Op.WITHIN, margin, BOTH) if written == EQUIVALENT else (Op.ABOVE, -margin, LOWER)
    elif written in set(Op):
        op, threshold = Op(written), float(_take(entries, "value", float, where))
        bound = _take(entries, "bound", str, where)
    else:
        raise ValueError(f"{where}: op={written!r} is none of {', '.join(Op)}, {NONINFERIOR}, {EQUIVALENT}")
    rule = Rule(
        id=name,
        metric=_take(entries, "metric", str, where),
        op=op,
        threshold=threshold,
        bound=bound,
        min_n=_take(entries, "min_n", int, where, 0),
        needs=tuple(_texts(_take(entries, "needs", list, where, []), where)),
        required=frozenset(_lane(x, where) for x in _take(entries, "required", list, where, list(Lane))),
        refutes=_flag(entries, "refutes", where),
        fail_code=_take(entries, "fail_code", str, where, ""),
        says=_take(entries, "says", str, where, ""),
    )
    if entries:
        raise ValueError(f"{where}: unknown entries {', '.join(map(str, entries))}")
    return rule


def _take(entries: dict[Any, Any], key: str, kind: type, where: str, default: Any = None) -> Any:
    value = entries.pop(key, default)
    if value is None:
        raise ValueError(f"{where}: {key} is missing")
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise ValueError(f"{where}: {key}={value!r} must be {kind.__name__}")  # noqa: TRY004
    return value


def _flag(entries: dict[Any, Any], key: str, where: str) -> bool:
    value = entries.pop(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{where}: {key}={value!r} must be true or false")  # noqa: TRY004
    return value


def _texts(values: list[object], where: str) -> list[str]:
    if any(not isinstance(v, str) for v in values):
        raise ValueError(f"{where}: {values!r} must hold text only")
    return [str(v) for v in values]


def _lane(value: object, where: str) -> Lane:
    if value not in set(Lane):
        raise ValueError(f"{where}: lane {value!r} is none of {', '.join(Lane)}")
    return Lane(str(value))


class _Strict(yaml.SafeLoader):
    """Plain YAML without its traps: no doubled key, no alias that unfolds into gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("a policy has no aliases")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if doubled := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"entry {doubled[0]!r} is written twice")
        return super().construct_mapping(node, deep=deep)


def _yaml(text: str) -> object:
    if len(text) > MAX_TEXT:
        raise ValueError(f"a policy has at most {MAX_TEXT} characters, not {len(text)}")
    try:
        return yaml.load(text, Loader=_Strict)  # noqa: S506 - _Strict is a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"a policy is YAML: {' '.join(str(error).split())}") from error
