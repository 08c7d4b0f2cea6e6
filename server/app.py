"""The Flower ServerApp: runs the campaign that its run-config holds, whatever grid is behind it."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.grid import InProcessGrid
from server.progress import silent

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the campaign in `context.run_config["campaign"]`."""
    import torch

    from server.campaign import Campaign, run

    campaign = Campaign.parse(str(context.run_config["campaign"]))
    before = torch.get_num_threads()
    torch.set_num_threads(campaign.threads)
    try:
        run(grid, campaign, grid.progress if isinstance(grid, InProcessGrid) else silent)
    finally:
        torch.set_num_threads(before)
