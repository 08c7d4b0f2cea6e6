"""Reserve: every site is shown the code, the experiment and all plans, and charges them before anything is trained.

Settings:
    plans: every plan of the whole campaign, as JSON.

Writes `sites.json`: per admitted site its declared size, public key and receipt; and who refused, with which code, in
`refused.json`.
"""

from learning.messages import Reserve, Reserved
from server.campaign import State
from server.rounds import Answers, ask


def run(state: State) -> None:
    """Ask all sites to admit the run; raises `QuorumLost` if too few do."""
    from evaluation.provenance import code_digest

    campaign = state.campaign
    request = Reserve(
        run=campaign.run,
        code_digest=code_digest(),
        experiment_digest=campaign.experiment_digest,
        plans=tuple(state.stage.settings["plans"]),
        delta=campaign.delta,
    )
    answers: Answers[Reserved] = ask(
        state.grid,
        {name: node for name, (node, _) in state.greetings.items()},
        lambda _: request,
        quorum=campaign.quorum,
        seconds=campaign.seconds,
    )
    sites = {
        name: {
            "public_subjects": state.greetings[name][1].public_subjects,
            "public_key": state.greetings[name][1].public_key.hex(),
            "epsilon": receipt.epsilon,
            "delta": receipt.delta,
            "head": receipt.head,
            "seq": receipt.seq,
        }
        for name, receipt in answers.replies.items()
    }
    state.write_json("sites.json", sites)
    state.write_json("refused.json", dict(answers.failed))
