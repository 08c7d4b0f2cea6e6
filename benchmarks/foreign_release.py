"""Does an audit convict a release that Pericard did not make, and leave an honest one alone?

A plain convolutional autoencoder learns frames of 112x112 apical clips of some people for a minute or two, far beyond
what generalises; a clip is drawn by decoding the codes of one person's clip with a little noise, nobody's twice.
Everything lies on disk as EchoNet-Dynamic does, FileList.csv and Videos/*.avi (Motion JPEG), without tracings, and was
written by PyAV. The copier learned the members themselves; the honest one other people, who are neither members nor
controls. Fair coins told members from controls. People are simulated.

python -m benchmarks.foreign_release --out DIR [--people 320] [--epochs 20] [--write]
"""

import argparse
import csv
import json
import time
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from benchmarks import results
from cohorts.clips import films
from cohorts.study import View
from pericard.cli import run

SIDE, SMALL, FRAMES, RATE = 112, 64, 8, 25
NOISE = 0.05  # of the spread of codes


class Autoencoder(nn.Module):
    """Frames `(n, 1, 64, 64)` to codes `(n, 16, 8, 8)` and back."""

    def __init__(self) -> None:
        super().__init__()
        down, up = pairwise((1, 16, 32, 16)), pairwise((16, 32, 16, 16))
        self.encode = nn.Sequential(*(part for a, b in down for part in (nn.Conv2d(a, b, 4, 2, 1), nn.SiLU())))
        self.decode = nn.Sequential(
            *(part for a, b in up for part in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.SiLU())),
            nn.Conv2d(16, 1, 3, padding=1),
            nn.Sigmoid(),
        )


def learned(clips: NDArray[np.uint8], *, epochs: int, seed: int) -> Autoencoder:
    """Return an autoencoder of all frames of `clips`, `(n, T, 64, 64)`."""
    rng = torch.Generator().manual_seed(seed)
    model, frames = Autoencoder(), torch.from_numpy(clips).reshape(-1, 1, SMALL, SMALL).float() / 255
    for weights in model.parameters():
        if weights.ndim > 1:
            nn.init.kaiming_uniform_(weights, nonlinearity="relu", generator=rng)
        else:
            nn.init.zeros_(weights)
    steps = epochs * (len(frames) // 32)
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    fall = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, total_steps=steps)
    for _ in range(steps):
        batch = frames[torch.randint(len(frames), (32,), generator=rng)]
        loss = nn.functional.mse_loss(model.decode(model.encode(batch)), batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
        fall.step()
    print(
        f"{len(frames)} frames, {steps} steps, error {loss.item() ** 0.5:.4f} of the range of grey values", flush=True
    )
    return model


@torch.no_grad()
def drawn(model: Autoencoder, clips: NDArray[np.uint8], n: int, *, seed: int) -> NDArray[np.uint8]:
    """Return up to `n` clips, `(n, T, 112, 112)`: codes of a clip, moved alike, decoded and enlarged."""
    rng, found = torch.Generator().manual_seed(seed), []
    for k in torch.randperm(len(clips), generator=rng)[:n].tolist():
        codes = model.encode(torch.from_numpy(clips[k])[:, None].float() / 255)
        moved = codes + NOISE * codes.std() * torch.randn(codes.shape[1:], generator=rng)
        frames = (255 * model.decode(moved)[:, 0]).round().byte().numpy()
        found.append(
            np.stack([np.asarray(Image.fromarray(f).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for f in frames])
        )
    return np.stack(found)


def write(folder: Path, clips: NDArray[np.uint8], ef: NDArray[np.floating], names: list[str]) -> None:
    """Write clips, `(n, T, 112, 112)`, as EchoNet-Dynamic lies on disk."""
    (folder / "Videos").mkdir(parents=True)
    with (folder / "FileList.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["FileName", "EF", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split"])
        for name, clip, fraction in zip(names, clips, ef, strict=True):
            rows.writerow([name, f"{fraction:.2f}", SIDE, SIDE, RATE, len(clip), "TRAIN"])
            with av.open(str(folder / "Videos" / f"{name}.avi"), "w") as container:
                stream = container.add_stream("mjpeg", rate=RATE)
                stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuvj420p"
                stream.options = {"qmin": "3", "qmax": "5"}
                for frame in clip:
                    for packet in stream.encode(
                        av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuvj420p")
                    ):
                        container.mux(packet)
                for packet in stream.encode():
                    container.mux(packet)


def build(out: Path, *, people: int, epochs: int) -> None:
    """Write members, controls, and two releases: `copier` of the members, `honest` of other people."""
    rng = np.random.default_rng(7)
    n = people + people // 2
    starts = rng.random((n, 1))  # nobody starts to record at end diastole
    cohort = films(n, phase=starts + np.arange(FRAMES) / FRAMES, seed=11, size=SIDE, style="site-a", views=(View.A4C,))
    heads = rng.random(people) < 0.5
    sides = {"members": np.flatnonzero(heads), "controls": np.flatnonzero(~heads)}
    for side, who in sides.items():
        write(out / side, cohort.pixels[who], cohort.lvef_percent[who], [f"0X{rng.integers(2**60):015X}" for _ in who])
    small = np.stack(
        [
            [np.asarray(Image.fromarray(f).resize((SMALL, SMALL), Image.Resampling.BOX)) for f in clip]
            for clip in cohort.pixels
        ]
    )
    for name, who in (("copier", sides["members"]), ("honest", np.arange(people, n))):
        model = learned(small[who], epochs=epochs, seed=3)
        samples = drawn(model, small[who], n - people, seed=5)
        write(out / name, samples, rng.uniform(30, 70, len(samples)), [f"sample{k:04d}" for k in range(len(samples))])


def main() -> None:
    """Build, audit both by the command line, print, and with `--write` keep it in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=320, help="members and controls together")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    build(given.out, people=given.people, epochs=given.epochs)
    rows = [
        [
            "release",
            "verdict",
            "exit",
            "members shown",
            "controls shown",
            "ε at least",
            "worst AUC",
            "smallest leak",
            "s",
        ]
    ]
    print(f"built in {time.perf_counter() - began:.0f} s", flush=True)
    for name in ("copier", "honest"):
        began, out = time.perf_counter(), given.out / f"audit-{name}"
        sides = ["--members", str(given.out / "members"), "--controls", str(given.out / "controls")]
        code = run(["audit", str(given.out / name), "--out", str(out), *sides, "--split", "random"])
        told = json.loads((out / "audit.json").read_text(encoding="utf-8"))
        found = told["suite"]["disclosure"]
        worst = max(r["auc"]["value"] for r in told["suite"]["records"] if r["auc"] and "." not in r["name"])
        rows.append(
            [
                name, told["verdict"], code, f"{found['members_disclosed']} of {found['members']}",
                f"{found['controls_disclosed']} of {found['controls']}", found["eps_lb"], worst,
                f"{100 * told['smallest_leak']:g} %", f"{time.perf_counter() - began:.0f}",
            ]
        )  # fmt: skip
    text = " ".join(__doc__.split("\n\n")[1].split()) + "\n\n" + results.table(rows[0], rows[1:])
    print(text)
    if given.write:
        results.write(
            "A release that Pericard did not make", "python -m benchmarks.foreign_release --out DIR --write", text
        )


if __name__ == "__main__":
    main()
