"""What one campaign of hearts that move comes to: its verdict, what every arm reaches, and where its time goes.

python -m benchmarks.echo_video [--write] [--out FOLDER]

Runs `pericard simulate experiment=echo_video` into FOLDER; a FOLDER that holds a finished run is read, not run again.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import table, write
from pericard.cli import run
from server.campaign import DONE


def main() -> None:
    """Run or read, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--out", type=Path, help="folder of the run")
    asked = parser.parse_args()
    out = asked.out or Path(tempfile.mkdtemp()) / "moving"
    if not (out / "certificate.json").exists():
        run(["simulate", "experiment=echo_video", "--json", "--out", str(out)])
    text = told(out)
    if asked.write:
        write("A campaign of hearts that move", "python -m benchmarks.echo_video --write", text)
    else:
        print(text)


def told(out: Path) -> str:
    """Return verdict, rules, arms and seconds of the finished run in `out`."""
    (path,) = out.glob("campaign/*-certify/statement.json")
    predicate: dict[str, Any] = json.loads(path.read_text())["predicate"]
    found = {finding["metric"]: finding["estimate"] for finding in predicate["findings"]}
    rules: list[list[object]] = []
    for rule in predicate["policy"]["evaluated_rules"]:
        cell = found.get(_metric(rule["rule"], predicate["policy"]["text"])) or {}
        ends = f"{cell['low']:.3g} to {cell['high']:.3g}" if cell else ""
        rules.append([rule["rule"], cell.get("value", ""), ends, rule["verdict"]])
    arms: list[list[object]] = [
        [u["task"], u["metric"], u["arm"], u["estimate"], f"{u['ci'][0]:.3g} to {u['ci'][1]:.3g}", u["n_patients"]]
        for u in predicate["utility"]
        if u["metric"] in ("dice", "accuracy", "balanced_accuracy", "error_points", "correlation", "near")
    ]
    screened = json.loads(next(out.glob("campaign/*-screen/screened.json")).read_text())
    film = json.loads(next(out.glob("campaign/*-sample/film.json")).read_text())
    clock: list[list[object]] = [[name, seconds] for name, seconds in _seconds(out)]
    return (
        f"Verdict: **{predicate['verdict']}**, ε = {predicate['dp']['eps']:.3g}. Of {screened['candidates']} hearts"
        f" drawn {screened['kept']} passed screening and {screened['released']} are released, each in two views."
        f" Biplane disks find the fractions that were asked in the masks to within {film['error_points']} points"
        f" (r = {film['correlation']}, {film['hearts']} hearts). Hospitals are simulated, seeds are drawn once.\n\n"
        + table(["rule", "found", "95 % interval", "verdict"], rules)
        + "\n\n"
        + table(["task", "metric", "trained on", "estimate", "95 % interval", "test subjects"], arms)
        + "\n\n"
        + table(["stage", "seconds"], clock)
        + f"\n\n{_caution(predicate)}Other work ran on the machine all the while."
    )


def _caution(predicate: dict[str, Any]) -> str:
    """Return what must be said where the networks that sites trained alone tell no patient from another."""
    (own,) = (u for u in predicate["utility"] if (u["arm"], u["metric"]) == ("real_local", "correlation"))
    if own["ci"][0] > 0:
        return ""
    return (
        f"Fractions that the sites' own networks find correlate with the true ones by r = {own['estimate']:.2f}"
        f" ({own['ci'][0]:.2f} to {own['ci'][1]:.2f}): they learned to name the mean. That errors of the release's arm"
        " are hardly larger is then no evidence; the policy's rule needs a reference that learned and stays open, and"
        " a PASS of it above was signed before the policy asked for that. "
    )


def _metric(rule: str, policy: str) -> str:
    import yaml

    return next(str(r["metric"]) for r in yaml.safe_load(policy)["rules"] if r["id"] == rule)


def _seconds(out: Path) -> list[tuple[str, float]]:
    """Return how long each stage took, from when the one before was done, and all together."""
    begun = (out / "campaign" / "campaign.json").stat().st_mtime
    done = sorted((p.stat().st_mtime, p.parent.name) for p in out.glob(f"campaign/*/{DONE}"))
    found, before = [], begun
    for at, name in done:
        found.append((name, round(at - before, 1)))
        before = at
    return [*found, ("all", round(before - begun, 1))]


if __name__ == "__main__":
    main()
