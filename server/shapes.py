"""The part of a campaign that concerns shapes: nothing at all where no share of ε is given for them."""

from collections.abc import Sequence

from conf.schema import Budget, Experiment
from privacy.mechanism import DpPlan, calibrate
from server.campaign import Stage

SHAPES = "shapes"  # the stage


def plans(budget: Budget) -> tuple[DpPlan, ...]:
    """Return the plan of the moments of members' masks, noised so that it costs its share."""
    from synthesis import likeness

    if not budget.shapes_share:
        return ()
    return (calibrate(likeness.plan(1.0), epsilon=budget.epsilon * budget.shapes_share, delta=budget.delta),)


def stages(experiment: Experiment, *, moves: bool, charged: Sequence[DpPlan]) -> list[Stage]:
    """Return the stage that asks the sites; raises `ValueError` where nothing would be made of what they say."""
    from synthesis import likeness

    share = experiment.budget.shapes_share
    if not share:
        return []
    if moves:
        raise ValueError(f"budget.shapes_share={share} must be 0 for hearts that move: their shapes are public")
    plan = next(plan for plan in charged if plan.purpose == likeness.PURPOSE)
    return [Stage(name=SHAPES, do="shapes", settings={"plan": plan.to_json()})]
