"""Several runs side by side: what each cost in privacy, what attacks proved, and what its release is good for.

Read off signed certificates, so nothing is measured again. Two runs are comparable in a task only where they were
judged on the same patients, which a certificate does not say; whoever keeps them in one folder knows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation import attempts, figures
from evaluation.certificate import CERTIFICATE, TRUST, InvalidCertificate, authenticate, parse
from evaluation.envelope import Envelope, MalformedEnvelope
from evaluation.evidence import Verdict
from evaluation.figures import Task
from evaluation.predicate import SERVER, Utility
from evaluation.statement import Predicate
from evaluation.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One certified run.

    Attributes:
        name: its folder, from where the comparison began.
        predicate: what its certificate claims.
        signed: the signatures fit the keys beside it, or those that were given; its files were not looked at.
    """

    name: str
    predicate: Predicate
    signed: bool

    @property
    def epsilon(self) -> float | None:
        """ε of the release; where it has none, of what the server saw of the training; `None` for neither."""
        dp = self.predicate.dp
        return dp.eps if dp.eps is not None else dp.per_view[SERVER] or dp.generator_eps

    @property
    def proved(self) -> tuple[float, float] | None:
        """The largest ε that an attack on the release proved, and the largest that one could have proved."""
        found = [(a.eps_lb, a.eps_ceiling) for a in self.predicate.audits if a.eps_lb is not None]
        if not found:
            return None
        return max(low for low, _ in found), max((c for _, c in found if c is not None), default=0.0)

    @property
    def p(self) -> float | None:
        """The smallest p-value of an attack, after Holm's correction where it was made."""
        found = [a.p_holm if a.p_holm is not None else a.p for a in self.predicate.audits]
        return min((p for p in found if p is not None), default=None)

    @property
    def outcome(self) -> str:
        """What came of all attacks: the worst of their outcomes."""
        words = [attempts.outcome(a)[0] for a in self.predicate.audits]
        if not words:
            return "none tried"
        if attempts.SOMETHING in words:
            return attempts.SOMETHING
        return attempts.NOTHING if attempts.NOTHING in words else words[0]

    @property
    def scores(self) -> dict[Task, Utility]:
        """Return per task and main metric what networks reach that were trained on the release."""
        return {(u.task, u.metric): u for u in figures.main(self.predicate.utility) if figures.is_release(u.arm)}

    def real(self, task: Task) -> Utility | None:
        """Return the best of what networks reach that were trained on real studies."""
        arms = [u for u in self.predicate.utility if (u.task, u.metric) == task and figures.is_real(u.arm)]
        return max((u for u in arms if u.estimate is not None), key=lambda u: u.estimate or 0.0, default=None)


def read(folder: Path, *, trust: Trust | None = None) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Read every certificate below `folder`, in the order of their names, and say what could not be read.

    Args:
        folder: searched to any depth; links are not followed.
        trust: whose keys count; those beside each certificate if not given.
    """
    runs, problems = list[Run](), list[str]()
    for path in sorted(folder.rglob(CERTIFICATE)):
        name = path.parent.relative_to(folder).as_posix()
        try:
            envelope = Envelope.parse(path.read_bytes())
            predicate = parse(envelope.payload).predicate
        except (OSError, MalformedEnvelope, InvalidCertificate) as error:
            problems.append(f"{name}: {error}")
            continue
        runs.append(Run(name=name, predicate=predicate, signed=_signed(envelope, path.with_name(TRUST), trust)))
    return tuple(runs), tuple(problems)


def tasks(runs: Iterable[Run]) -> tuple[Task, ...]:
    """Return the tasks of all runs, those that most were judged by first."""
    counted: dict[Task, int] = {}
    for run in runs:
        for task in run.scores:
            counted[task] = counted.get(task, 0) + 1
    return tuple(sorted(counted, key=lambda t: (-counted[t], t)))


def ordered(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs by ε, those without one last."""
    return tuple(sorted(runs, key=lambda r: (r.epsilon is None, r.epsilon or 0.0, r.name)))


def tone(run: Run) -> str:
    """Return the colour in which a run is drawn: that of its verdict."""
    return {Verdict.PASS: "#1b7a4b", Verdict.FAIL: "#b3261e", Verdict.INCONCLUSIVE: "#8f6400"}[run.predicate.verdict]


def _signed(envelope: Envelope, beside: Path, trust: Trust | None) -> bool:
    try:
        authenticate(envelope, trust=trust or Trust.parse(beside.read_bytes()))
    except (OSError, ValueError):
        return False
    return True
