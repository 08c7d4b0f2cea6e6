"""Autoencoder: nothing is trained here. The public autoencoder is checked against its provenance and written down.

Settings:
    uses: whether this campaign starts from public priors.
    also: public priors beside the common ones, each with a record of its own; absent for none.

Writes `provenance.json`: what the priors were trained on, by which recipe, and their digests.
"""

from server.campaign import State


def run(state: State) -> None:
    """Check every prior against its digest; raises `ValueError` naming the file that differs."""
    from synthesis import priors

    if not state.stage.settings["uses"]:
        state.write_json("provenance.json", {"data": "none: the networks start from noise", "digests": {}})
        return
    also = state.stage.settings.get("also", [])
    for name in (*priors.NAMES, *also):
        priors.load(name)
    state.write_json("provenance.json", {**priors.provenance(), **{name: priors.provenance(name) for name in also}})
