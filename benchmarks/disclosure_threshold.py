"""Measure the disclosure rule: how often strangers' images match a subject, and how often altered copies are found.

Half the subjects stand for a release made of strangers, the worst an honest generator could return; the other half is
audited.

python -m benchmarks.disclosure_threshold [--camus FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cohorts.frames import Frames, resize
from cohorts.phantom.simulate import stills
from privacy.embedding import embed, embed_poses, nearest
from privacy.planted import LEVELS, altered_copy

THRESHOLDS = (0.90, 0.91, 0.92, 0.93, 0.94)


def measure(name: str, pixels: NDArray[np.uint8], subject: NDArray[np.int64], *, n_copies: int = 300) -> None:
    """Print, for each threshold, the share of audited subjects matched by strangers and of copies found."""
    rng = np.random.default_rng(0)
    released = np.isin(subject, rng.permutation(subject.max() + 1)[: (subject.max() + 1) // 2])
    audited, owner = pixels[~released], subject[~released]
    poses = embed_poses(audited)
    match = nearest(poses.reshape(-1, poses.shape[-1]), embed(pixels[released])).reshape(len(audited), -1).max(axis=1)
    per_subject = np.array([match[owner == one].max() for one in np.unique(owner)])
    print(f"{name}: {len(per_subject)} subjects against {released.sum()} images of strangers")
    print("  threshold ", *(f"{threshold:7.2f}" for threshold in THRESHOLDS))
    print("  strangers ", *(f"{np.mean(per_subject >= threshold):7.3f}" for threshold in THRESHOLDS))
    chosen = rng.choice(len(audited), min(n_copies, len(audited)), replace=False)
    for level in LEVELS:
        copies = embed(np.stack([altered_copy(audited[i], level=level, rng=rng) for i in chosen]))
        found = np.einsum("nd,npd->np", copies, poses[chosen]).max(axis=1)
        print(f"  copies, {level} ", *(f"{np.mean(found >= threshold):7.3f}" for threshold in THRESHOLDS))


def camus(root: Path) -> Frames:
    """Read the PNG mirror of CAMUS (Leclerc et al. 2019, arXiv:1908.06948), resized to 64 px."""
    import pandas as pd
    from PIL import Image

    rows = pd.read_csv(root / "labels.csv")
    images = [resize(np.asarray(Image.open(root / name).convert("L")), 64, nearest=False) for name in rows["image"]]
    subject, subjects = pd.factorize(rows["patient"])
    blank = np.zeros(len(rows))
    return Frames(
        pixels=np.stack(images),
        masks=np.zeros((len(rows), 64, 64), np.uint8),
        view=blank.astype(np.int64),
        phase=blank.astype(np.int64),
        lvef_percent=blank.astype(np.float32),
        subject=subject.astype(np.int64),
        subjects=tuple(subjects),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camus", type=Path, help="folder of CAMUS stills with labels.csv")
    parser.add_argument("--subjects", type=int, default=500, help="phantom subjects of each style")
    arguments = parser.parse_args()
    if arguments.camus is not None:
        real = camus(arguments.camus)
        measure("CAMUS", real.pixels, real.subject)
    for style in ("site-a", "site-b", "site-c", "wide"):
        phantom = stills(arguments.subjects, seed=1, style=style)
        measure(style, phantom.pixels, phantom.subject)
