"""`pericard plan`: what a private training costs, and what would be noticed, before anybody spends anything."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pericard.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy.mechanism import Accountant, DpPlan

BATCH = 64  # subjects in a step on average: below that the noise drowns what they say
NAMES: "Mapping[Accountant, str]" = {"pld": "PLD (decides)", "prv": "PRV", "rdp": "RDP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody typed: forwards `subjects`, `target`, `rounds`; backwards `noise_multiplier`, `steps`.

    `sites` and `honest` ask what would be left if the noise were shared, which no site does unless it says so.
    """

    subjects: int | None
    target: float | None
    rounds: int | None
    steps_per_round: int
    sampling_rate: float | None
    noise_multiplier: float | None
    steps: int | None
    delta: float
    sites: int | None = None
    honest: int | None = None

    def plan(self) -> "DpPlan":
        """Return the training meant; raises `click.UsageError` where half of it is missing or out of bounds."""
        from privacy.mechanism import DpPlan, calibrate

        forwards, backwards = (self.subjects, self.target, self.rounds), (self.noise_multiplier, self.steps)
        try:
            if None not in backwards and forwards == (None, None, None) and self.sampling_rate is not None:
                return DpPlan(
                    purpose="train", sampling_rate=self.sampling_rate, noise_multiplier=self.noise_multiplier or 0.0,
                    clip_norm=1.0, steps=self.steps or 0, draws=1,
                )  # fmt: skip
            if None in forwards or backwards != (None, None):
                raise click.UsageError(
                    "give --subjects, --epsilon and --rounds, or --sampling-rate, --noise-multiplier and --steps"
                )
            members = self.subjects or 0
            if members < 1:
                raise ValueError(f"subjects={members} must be at least 1")  # noqa: TRY301
            wanted = DpPlan(
                purpose="train", sampling_rate=self.sampling_rate or min(1.0, BATCH / members), noise_multiplier=1.0,
                clip_norm=1.0, steps=(self.rounds or 0) * self.steps_per_round, draws=1,
            )  # fmt: skip
            return calibrate(wanted, epsilon=self.target or 0.0, delta=self.delta)
        except ValueError as error:
            raise click.UsageError(str(error)) from error


def command(asked: Asked, *, ledger: Path | None, picture: Path | None, as_json: bool) -> int:
    """Print the plan; exit code 4 where it does not fit into the account of `ledger`."""
    from rich.console import Console

    with Console(stderr=True, quiet=as_json).status("weighing privacy losses"):
        plan = asked.plan()
        try:
            facts = _facts(plan, asked.delta) | _shared(plan, asked)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        facts["subjects"], facts["rounds"] = asked.subjects, asked.rounds
        fits = None if ledger is None else _fits(ledger, plan, asked.delta)
        if fits is not None:
            facts["fits"] = fits
        if picture is not None:
            _draw(plan, asked, picture)
            facts["picture"] = str(picture)
    if as_json:
        sys.stdout.write(json.dumps({n: _finite(v) for n, v in facts.items()}, indent=1, ensure_ascii=False) + "\n")
    else:
        _print(facts)
    return Exit.REFUSED if fits is not None and fits["why_not"] else Exit.PASS


def _facts(plan: "DpPlan", delta: float) -> dict[str, Any]:
    import numpy as np
    from scipy.special import ndtr, ndtri

    from privacy.audit.bounds import SIGNIFICANCE, Guesses, gaussian_bound, gaussian_mu
    from privacy.audit.layer import CANARIES
    from privacy.audit.power import guesses_for, share_caught
    from privacy.mechanism import epsilon

    cost = epsilon([plan], delta)
    facts: dict[str, Any] = {
        "epsilon": cost,
        "delta": delta,
        "sampling_rate": plan.sampling_rate,
        "noise_multiplier": plan.noise_multiplier,
        "steps": plan.steps,
        "epsilon_by": {name: epsilon([plan], delta, accountant=name) for name in NAMES},
    }
    if not math.isfinite(cost):
        return facts
    mu = gaussian_mu(cost, delta)
    r = guesses_for(plan, delta)
    best = Guesses(canaries=CANARIES, guessed=r, right=r)
    return facts | {
        "epsilon_at_2_sites": epsilon([plan, plan], delta),
        "epsilon_at_3_sites": epsilon([plan, plan, plan], delta),
        "epsilon_under_2_names": epsilon([plan], delta, identities=2),
        "certainty_from_even_odds": 1 / (1 + math.exp(-cost)),
        "attack_auc_at_most": float(ndtr(mu / math.sqrt(2))),
        "attack_tpr_at_1_percent_fpr_at_most": float(ndtr(ndtri(0.01) + mu)),
        "canaries": CANARIES,
        "audit_ceiling": gaussian_bound(best, delta),
        "halved_noise_caught": share_caught(plan, cost, delta, significance=SIGNIFICANCE, rng=np.random.default_rng(0)),
    }


def _shared(plan: "DpPlan", asked: Asked) -> dict[str, Any]:
    """Return ε where every site adds σ/√K only, as under secure aggregation, and h of them really do."""
    import dataclasses

    from privacy.mechanism import effective_noise, epsilon

    if asked.sites is None and asked.honest is None:
        return {}
    if asked.sites is None or asked.honest is None:
        raise ValueError("--sites and --honest need each other")
    left = effective_noise(plan.noise_multiplier, sites=asked.sites, honest=asked.honest)
    shared = epsilon([dataclasses.replace(plan, noise_multiplier=left)], asked.delta)
    return {"sites": asked.sites, "honest": asked.honest, "epsilon_if_noise_is_shared": shared}


def _fits(folder: Path, plan: "DpPlan", delta: float) -> dict[str, Any] | None:
    from pericard.ledger import Question, room

    asked = Question(
        epsilon=None,
        delta=delta,
        purpose="train",
        sampling_rate=plan.sampling_rate,
        noise_multiplier=plan.noise_multiplier,
        steps=plan.steps,
    )
    return room(folder, asked)


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What this training costs", title_justify="left", show_header=False)
    for line in _lines(facts):
        table.add_row(*line)
    Console().print(table)


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    q, cost = facts["sampling_rate"], facts["epsilon"]
    lines = [
        ("every step draws", f"each subject with probability q = {q:.4g}"),
        ("noise", f"σ = {facts['noise_multiplier']:.4g} times the clip, in each of T = {facts['steps']} steps"),
        ("ε per subject", f"{_said(cost)} at δ = {facts['delta']:g}"),
        *((f"  by {NAMES[name]}", _said(value)) for name, value in facts["epsilon_by"].items()),
    ]
    if "canaries" in facts:
        lines += [
            ("seen at 2 sites, at 3",
             f"ε = {_said(facts['epsilon_at_2_sites'])}, {_said(facts['epsilon_at_3_sites'])}"),
            ("under 2 names at one", f"ε = {_said(facts['epsilon_under_2_names'])}"),
            ("in words", "whoever gave even odds that a subject took part becomes at most "
                         f"{facts['certainty_from_even_odds']:.2%} certain, up to a probability of about δ"),
            ("any attack", f"AUC at most about {facts['attack_auc_at_most']:.3f}, and at 1 % false alarms "
                           f"{facts['attack_tpr_at_1_percent_fpr_at_most']:.1%} found (a Gaussian of this ε)"),
            ("our own audit", f"{facts['canaries']:,} canaries can prove ε = {facts['audit_ceiling']:.3g} at most; "
                              f"half the noise missing would be noticed in {facts['halved_noise_caught']:.0%} of runs"),
        ]  # fmt: skip
    if "epsilon_if_noise_is_shared" in facts:
        who = f"{facts['honest']} of {facts['sites']} sites add their share"
        lines.append(("were the noise shared", f"ε = {_said(facts['epsilon_if_noise_is_shared'])} where {who}"))
    if (fits := facts.get("fits")) is not None:
        from pericard.ledger import fits_line

        lines.append(("the account", fits_line(fits)))
    return lines


def _draw(plan: "DpPlan", asked: Asked, path: Path) -> None:
    """Draw ε against steps, exchanges where they are known, with the plan and its target marked."""
    import matplotlib as mpl

    mpl.use("Agg")
    import dataclasses

    import matplotlib.pyplot as plt

    from privacy.mechanism import epsilon

    per = asked.steps_per_round if asked.rounds is not None else 1
    counts = sorted({max(1, round(plan.steps * share / 12)) for share in range(1, 19)})
    costs = [epsilon([dataclasses.replace(plan, steps=n)], asked.delta) for n in counts]
    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes.plot([n / per for n in counts], costs, color="#1b6f78", lw=2)
    axes.plot([plan.steps / per], [epsilon([plan], asked.delta)], "o", color="#b3402a", ms=8, label="this plan")
    if asked.target is not None:
        axes.axhline(asked.target, color="#b3402a", lw=1, ls="--", label=f"target ε = {asked.target:g}")
    axes.set(xlabel="exchanges" if asked.rounds is not None else "local steps", ylabel="ε per subject", xlim=(0, None),
             ylim=(0, None))  # fmt: skip
    axes.set_title(
        f"q = {plan.sampling_rate:.3g}, σ = {plan.noise_multiplier:.3g}, δ = {asked.delta:g}"
        + (f", {per} local steps an exchange" if asked.rounds is not None else ""),
        fontsize=10, loc="left",
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    try:
        figure.savefig(path)
    finally:
        plt.close(figure)


def _said(epsilon: float) -> str:
    return f"{epsilon:.3f}" if math.isfinite(epsilon) else "cannot be said"


def _finite(value: Any) -> Any:
    """Return `value` as JSON has it: what is infinite is null."""
    if isinstance(value, dict):
        return {n: _finite(v) for n, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
