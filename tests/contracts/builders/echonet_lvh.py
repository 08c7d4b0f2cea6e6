"""Videos of bands that move, in the layout of EchoNet-LVH, with the walls measured."""

import csv

import av
import numpy as np

from cohorts.readers import READERS

FRAMES, SIDE, RATE = 5, 32, 40
HEADER = ["", "HashedFileName", "Calc", "CalcValue", "Frame", "X1", "X2", "Y1", "Y2"]
HEADER += ["Frames", "FPS", "Width", "Height", "split"]
NAMES = ("0x1a", "0x2b", "0x3c")


def film(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuvj420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))


def build(folder):
    rows = [HEADER]
    for k, (name, split) in enumerate(zip(NAMES, ("train", "val", "test"), strict=True)):
        home = folder / f"Batch{1 + k % 2}"
        home.mkdir(exist_ok=True)
        y = np.arange(SIDE)[None, :, None] + np.arange(FRAMES)[:, None, None]
        film(home / f"{name}.avi", np.broadcast_to(40 * (y // 6 % 5), (FRAMES, SIDE, SIDE)).astype(np.uint8))
        for calc, value, at in (("IVSd", 0.9, 1), ("LVIDd", 4.6 + k, 1), ("LVPWd", 1.1, 1), ("LVIDs", 3.1, 4)):
            rows.append([len(rows) - 1, name, calc, value, at, 9, 9, 3, 20, FRAMES, RATE, SIDE, SIDE, split])
    with (folder / "MeasurementsList.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return READERS["echonet_lvh"](root=str(folder))
