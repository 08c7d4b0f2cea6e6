"""Reserve: every site is shown the code, the experiment and all plans, and charges them before anything is trained.

Settings:
    plans: every plan of the whole campaign, as JSON.
    of: purpose of a plan → the sites that are charged for it; absent where all are.

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
    code, told = code_digest(), state.stage.settings
    of = told.get("of", {})

    def request(site: str) -> Reserve:
        return Reserve(
            run=campaign.run,
            code_digest=code,
            experiment_digest=campaign.experiment_digest,
            plans=tuple(plan for plan in told["plans"] if site in of.get(plan["purpose"], [site])),
            delta=campaign.delta,
        )

    answers: Answers[Reserved] = ask(
        state.grid,
        {name: node for name, (node, _) in state.greetings.items()},
        request,
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
