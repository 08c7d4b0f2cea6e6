"""For the auditor's own eyes: which member looks like which released file, listed and side by side; never to leave."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from cohorts.album import Album
from privacy.verbatim import Nearest

LIST, SHEET, WARNING = "matches.csv", "matches.png", "DO_NOT_SHARE.txt"
ROWS, COLUMNS, GAP = 12, 4, 4
WORDS = (
    "This folder names patients and shows their pictures beside released ones.\n"
    "It is for whoever audits, at the place where the patients' studies are, and must not leave it.\n"
    "No file outside this folder holds a name, a path or a picture of a patient.\n"
)


def write(folder: Path, members: Album, released: Album, nearest: Nearest) -> None:
    """Write every member's likest released picture, likest first, and a sheet of the first 48 pairs: left the member's.

    Args:
        folder: private; exists.
        members: whose pictures.
        released: of the release.
        nearest: `privacy.verbatim.likest` of the two.
    """
    order = np.argsort(-nearest.similarity, kind="stable")
    with (folder / LIST).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["similarity", "very_picture", "member", "member_file", "released_file"])
        for at in order:
            rows.writerow(
                [
                    f"{nearest.similarity[at]:.4f}",
                    "yes" if nearest.verbatim[at] else "no",
                    members.names[members.frames.subjects[at]],
                    members.files[nearest.picture[at]],
                    released.files[nearest.released[at]],
                ]
            )
    side = members.frames.pixels.shape[1]
    cell = (side + GAP, 2 * side + 2 * GAP)
    sheet = np.full((ROWS * cell[0], COLUMNS * cell[1]), 255, np.uint8)
    for k, at in enumerate(order[: ROWS * COLUMNS]):
        top, left = (k // COLUMNS) * cell[0], (k % COLUMNS) * cell[1]
        pair = (members.frames.pixels[nearest.picture[at]], released.frames.pixels[nearest.released[at]])
        sheet[top : top + side, left : left + 2 * side] = np.hstack(pair)
    Image.fromarray(sheet).resize((2 * sheet.shape[1], 2 * sheet.shape[0])).save(folder / SHEET)
    (folder / WARNING).write_text(WORDS, encoding="utf-8")
