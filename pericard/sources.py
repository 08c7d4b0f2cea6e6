"""Where `pericard sample` takes a generator from, of pictures or of clips: a finished run, a bundle, a public prior."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from conf.schema import Classes, Release

if TYPE_CHECKING:
    from collections.abc import Collection

    from synthesis.bundle import Bundle

SAMPLER = ("sample_solver", "sample_steps", "precision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A generator, and every number of subjects that is known of its training."""

    bundle: "Bundle"
    subjects: "Collection[int]"

    @property
    def classes(self) -> Classes:
        """What is drawn."""
        return Classes(**self.bundle.classes)

    @property
    def moves(self) -> bool:
        """Whether it draws clips."""
        return self.bundle.kind == "clip_generator"

    @property
    def beat(self) -> tuple[int, tuple[float, float]]:
        """How many frames a clip has, and the range of ejection fractions in percent; a run's usual where unsaid."""
        usual = Release()
        told = self.bundle.beat or {"frames": usual.frames, "lvef_percent": usual.lvef_percent}
        low, high = told["lvef_percent"]
        return told["frames"], (low, high)


def public(*, moving: bool) -> Source:
    """Return the public prior, of pictures or of clips, as it is installed."""
    from synthesis import bundle as bundles
    from synthesis.generators.latent_flow import SIZE, LatentFlow
    from synthesis.generators.latent_video_flow import LatentVideoFlow

    video = LatentVideoFlow()
    kind, name = ("clip_generator", "latent_video_flow") if moving else ("generator", "latent_flow")
    config, size = (asdict(video), video.size) if moving else (asdict(LatentFlow()), SIZE)
    bundle = bundles.Bundle(
        kind=kind,
        generator=name,
        config=config,
        weights={},
        seed=0,
        classes=asdict(Classes()),
        size=size,
        plan=None,
        epsilon=None,
        delta=None,
        priors=bundles.stood_on(kind, name, config),
    )
    return Source(bundle=bundle, subjects=())


def found(folder: Path) -> Source:
    """Return the generator that lies in `folder`: a bundle, a finished run, or a run's release."""
    from synthesis import bundle as bundles

    if (folder / bundles.RECORD).is_file():
        return Source(bundle=bundles.read(folder), subjects=())
    for run in (folder, folder.resolve().parent):
        if (run / "campaign" / "campaign.json").is_file():
            return _of_run(run)
    raise ValueError(f"{folder} holds neither a run nor a bundle, and is no release of a run")


def _of_run(out: Path) -> Source:
    from learning import arrays
    from server.campaign import finished_stage, resumed
    from server.stages.train import WEIGHTS
    from synthesis import bundle as bundles

    campaign = resumed(out)
    stages = {stage.name: stage for stage in campaign.stages} if campaign is not None else {}
    stage = next((stage for stage in stages.values() if stage.do in {"sample", "film"}), None)
    if campaign is None or stage is None:
        raise ValueError(f"{out} holds a run that draws nothing")
    kind, drawing = "clip_generator" if stage.do == "film" else "generator", stage.settings
    trained = finished_stage(out, drawing["trained"])
    plan = stages[drawing["trained"]].settings["plan"]
    costs = next((stage.settings["epsilon"] for stage in stages.values() if stage.do == "certify"), None)
    sites = json.loads((finished_stage(out, "reserve") / "sites.json").read_text(encoding="utf-8"))
    sizes = [site["public_subjects"] for site in sites.values()]
    bundle = bundles.Bundle(
        kind=kind,
        generator=drawing["name"],
        config=drawing["config"],
        weights=arrays.read(trained / WEIGHTS),
        seed=campaign.seed,
        classes=drawing["classes"],
        size=campaign.size,
        plan=plan,
        epsilon=costs if plan is not None else None,
        delta=campaign.delta if plan is not None else None,
        priors=bundles.stood_on(kind, drawing["name"], drawing["config"]),
        beat={name: drawing[name] for name in ("frames", "lvef_percent")} if stage.do == "film" else None,
    )
    half = [size // 2 for size in sizes]  # members are half of a site
    return Source(bundle=bundle, subjects={*sizes, *half, sum(sizes), sum(half)})


def changed(bundle: "Bundle", *, solver: str | None, steps: int | None, precision: str | None) -> "Bundle":
    """Return the bundle with the sampler that was asked for; the precision is what this machine makes of it."""
    from synthesis.bundle import stood_on
    from synthesis.precision import chosen

    given = dict(zip(SAMPLER, (solver, steps, precision), strict=True))
    changes = {name: value for name, value in given.items() if value is not None}
    if "precision" in changes:
        changes["precision"] = chosen(str(changes["precision"]))
    config = {**bundle.config, **changes}
    # A solver may need a prior of its own, as a student does, beside those that training began with.
    priors = {**bundle.priors, **stood_on(bundle.kind, bundle.generator, config)}
    return replace(bundle, config=config, priors=priors)
