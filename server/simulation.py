"""The simulation backend: the same campaign through `flwr run` on a SuperLink of its own, with Flower's engine on Ray.

The SuperLink starts in an empty folder (workers import from the folder it was started in before they look into the
bundle, flower.md 2.1), with its own home and ports, and everything it started is ended with it. `flwr run` reports
success before anything ran: only `flwr ls` says how it ended.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from evaluation.reviewed import OFFLINE, programs, write_bundle
from server.campaign import Campaign, ended_in
from server.failure import FILE, read_failure
from server.progress import Follower, Progress, silent
from server.superlink import CONNECTION, SimulationFailed, SuperLink, superlink
from synthesis import priors

FOLLOW_SECONDS, ASK_SECONDS, ASK_SECONDS_AT_END = 0.5, 20.0, 2.0


def run_simulation(
    campaign: Campaign,
    sites: Path,
    *,
    progress: Progress = silent,
    seconds: float = 24 * 3600,
    gpus_per_site: float = 0.0,
) -> None:
    """Run `campaign` over the site folders in `sites`, and leave no process behind.

    Args:
        campaign: `out` must be an absolute path.
        sites: folder of site folders; the k-th by name is virtual node k.
        progress: told how far it is.
        seconds: longest time for it all.
        gpus_per_site: what Ray reserves for each virtual site.

    Raises:
        QuorumLost, ValueError: what the campaign raised.
        SimulationFailed: if anything else kept the run from completing.
    """
    if not Path(campaign.out).is_absolute():
        raise ValueError(f"out={campaign.out!r} must be absolute: the campaign runs in another process")
    n_sites = len(list(sites.glob("*/site.yaml")))
    resources = f"client-resources-num-cpus=1 client-resources-num-gpus={gpus_per_site}"
    follower = Follower(Path(campaign.out) / "campaign")
    (Path(campaign.out) / "campaign" / FILE).unlink(missing_ok=True)

    def tell() -> None:
        for stage, fraction, words in follower:
            progress(stage, fraction, words)

    with tempfile.TemporaryDirectory(prefix="pericard-", ignore_cleanup_errors=True) as scratch:
        root = Path(scratch)
        write_bundle(root / "app")
        # A TOML basic string is quoted as a JSON string is.
        quoted = json.dumps(campaign.to_json(), ensure_ascii=False)
        (root / "run.toml").write_text(f"campaign = {quoted}\n", encoding="utf-8")
        with superlink(root, _environment(root, sites, campaign.threads)) as link:
            started = link.flwr(
                "run", str(root / "app"), CONNECTION, "-c", str(root / "run.toml"),
                "--federation-config", f"num-supernodes={n_sites} {resources} init-args-log-to-driver=false",
            )  # fmt: skip
            status = _follow(link, str(started["run-id"]), campaign, tell, time.monotonic() + seconds)
            if status != "finished:completed":
                if (failure := read_failure(Path(campaign.out))) is not None:
                    raise failure
                raise SimulationFailed(f"the run is {status!r}; the log ends:\n{link.log()}")


def _follow(link: SuperLink, run_id: str, campaign: Campaign, tell: Callable[[], None], deadline: float) -> str:
    """Pass progress on until the run has ended or the deadline is over; return its status.

    Asking Flower costs seconds of a whole core, so it is asked seldom until the campaign itself says that it ended.
    """
    asked = time.monotonic()
    while True:
        tell()
        ended = (Path(campaign.out) / "campaign" / FILE).exists() or ended_in(campaign)
        if time.monotonic() - asked > (ASK_SECONDS_AT_END if ended else ASK_SECONDS):
            (row,) = link.flwr("ls", CONNECTION, "--run-id", run_id)["runs"]
            asked = time.monotonic()
            if row["status"].startswith("finished") or asked > deadline:
                tell()
                return str(row["status"])
        time.sleep(FOLLOW_SECONDS)


def _environment(root: Path, sites: Path, threads: int) -> dict[str, str]:
    own = {
        "FLWR_HOME": str(root / "home"),
        "PERICARD_SITES": str(sites.resolve()),
        "PERICARD_PRIORS": str(priors.folder().resolve()),
        "OMP_NUM_THREADS": str(threads),
        "PATH": programs(),
        "NO_COLOR": "1",
        "RAY_TMPDIR": str(root),
    }
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("FLWR_")}
    return kept | OFFLINE | own
