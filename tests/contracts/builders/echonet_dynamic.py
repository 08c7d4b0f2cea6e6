"""Videos of a bright ellipse that shrinks, in the layout of EchoNet-Dynamic: MJPEG in AVI, chords as outlines."""

import csv

import av
import numpy as np

from cohorts.readers import READERS

FRAMES, SIDE = 6, 48
ED, ES = 1, 4
LIST = ["FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split"]


def radii(k, at):
    """Half axes across and along, in pixels: largest at ED, smallest at ES."""
    squeeze = {ED: 1.0, ES: 0.6}.get(at, 0.8)
    return 8.0 * squeeze + k, 14.0 * squeeze + k


def film(path, frames, rate=50):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuvj420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))


def chords(across, along, n=20):
    """The long axis, then `n` lines across from the top down: each x1, y1, x2, y2."""
    middle = SIDE / 2
    yield middle, middle - along, middle, middle + along
    for y in np.linspace(-along, along, n + 2)[1:-1]:
        x = across * np.sqrt(1 - (y / along) ** 2)
        yield middle - x, middle + y, middle + x, middle + y


def build(folder):
    (folder / "Videos").mkdir()
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    listed, traced = [LIST], [["FileName", "X1", "Y1", "X2", "Y2", "Frame"]]
    for k, split in enumerate(("TRAIN", "VAL", "TEST")):
        name = f"0X{k:016X}"
        ellipses = [(x / radii(k, at)[0]) ** 2 + (y / radii(k, at)[1]) ** 2 <= 1 for at in range(FRAMES)]
        film(folder / "Videos" / f"{name}.avi", np.where(ellipses, 40, 200).astype(np.uint8))
        listed.append([name, 55.5 + k, 40, 90, SIDE, SIDE, 50, FRAMES, split])
        for at in (ED, ES):
            traced += [[f"{name}.avi", *line, at] for line in chords(*radii(k, at))]
    for name, rows in (("FileList.csv", listed), ("VolumeTracings.csv", traced)):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return READERS["echonet_dynamic"](root=str(folder))
