"""Takeover: the expert that a site trained in an earlier campaign joins this one, byte for byte.

Settings:
    site, words, config: whose expert, its words and its network, as this campaign knows them.
    folder: the outputs of the earlier campaign.
    before: the stages of the experts that were there before.

Its patients paid for it then, by the account of their site; nothing is trained and nothing is charged here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learning.learners.expert import Expert
from learning.ontology import from_json
from server import frozen
from server.campaign import State, finished_stage
from server.failure import CampaignFailed


def run(state: State) -> None:
    """Read the expert by its digest, and write it again; raises `CampaignFailed` if it is another than this one."""
    told: Mapping[str, Any] = state.stage.settings
    older = frozen.unchanged(state, told["before"])
    expert, _ = frozen.read(finished_stage(Path(told["folder"]), f"expert-{told['site']}"))
    if (expert.label_map,) != from_json(told["words"]) or expert.config != Expert(**told["config"]):
        raise CampaignFailed(
            f"the expert in {told['folder']} has other words or another network than {told['site']} here"
        )
    frozen.write(state.folder, expert, older=frozen.digests(older))
