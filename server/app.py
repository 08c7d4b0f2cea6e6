"""The Flower ServerApp: runs the campaign that it is told, whatever grid is behind it."""

import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.grid import InProcessGrid
from server.progress import silent

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the campaign that `_told` returns."""
    import torch

    from server.campaign import Campaign, run

    campaign = Campaign.parse(_told(context))
    before = torch.get_num_threads()
    torch.set_num_threads(campaign.threads)
    try:
        run(grid, campaign, grid.progress if isinstance(grid, InProcessGrid) else silent)
    finally:
        torch.set_num_threads(before)


def _told(context: Context) -> str:
    """Return the campaign: from the run-config or, in a deployment, from a file of this machine.

    A run-config travels to every node, and the coordinator's folders are none of theirs.
    """
    written = str(context.run_config["campaign"])
    return written or Path(os.environ["PERICARD_CAMPAIGN"]).read_text(encoding="utf-8")
