"""The line between hospitals and a coordinator, listened to; and what must never be heard on it."""

import asyncio
import contextlib
import csv
import sqlite3
import ssl
import threading
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cohorts.deidentify import Pseudonyms
from cohorts.frames import resize
from cohorts.readers.phantom import Phantom
from cohorts.study import Study

NAMED = "MUSTERFRAU-ERIKA"
WIDTH, ROWS = 32, 20  # pixels of a planted row; pictures of a hospital that one is taken from
SIZE = 64  # of the pictures that a campaign works with


class Relay:
    """A relay that keeps every byte of both directions, connection by connection.

    Args:
        host: where it listens, on a port of its own.
        near: TLS towards the hospitals, where this relay has the coordinator's key; it then hears what TLS hides.
        far: TLS towards the coordinator, of such a relay.

    Attributes:
        target: port of loopback that it passes everything on to.
        up, down: what every connection carried.
    """

    def __init__(self, host: str, *, near: ssl.SSLContext | None = None, far: ssl.SSLContext | None = None) -> None:
        self.host, self.target, self._far = host, 0, far
        self.up: list[bytearray] = []
        self.down: list[bytearray] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._wait(asyncio.start_server(self._serve, host, 0, ssl=near))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Hang up everywhere."""
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, thither = await asyncio.open_connection("127.0.0.1", self.target, ssl=self._far)
        except OSError:  # nobody is there yet, and the caller hears just that
            writer.close()
            return
        up, down = bytearray(), bytearray()
        self.up.append(up)
        self.down.append(down)
        pumps = [asyncio.create_task(_pump(reader, thither, up)), asyncio.create_task(_pump(there, writer, down))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, thither):
                end.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray) -> None:
    with contextlib.suppress(OSError):  # a line that was cut ends, too
        while part := await source.read(65536):
            kept += part
            sink.write(part)
            await sink.drain()


@dataclass(frozen=True, slots=True)
class Planted:
    """What must never leave a hospital: its patients' names, and a row of grey values of some of them."""

    names: tuple[bytes, ...]
    rows: tuple[bytes, ...]

    def found_in(self, *raw: bytes | bytearray) -> set[bytes]:
        """Return what of it is in any of `raw`.

        A name is found in any case; a row as bytes and as little-endian float32 in [0, 255], [0, 1] or [-1, 1].
        """
        found = {row for each in raw for row in self.rows for form in forms(row) if form in each}
        lowered = [each.lower() for each in raw if NAMED.lower().encode() in each.lower()]
        return found | {name for each in lowered for name in self.names if name.lower() in each}


def forms(row: bytes) -> tuple[bytes, ...]:
    """Return the ways in which a program would write a row of grey values down."""
    grey = np.frombuffer(row, np.uint8).astype(np.float32)
    return row, grey.tobytes(), (grey / 255).tobytes(), (grey / 127.5 - 1).tobytes()


def phantoms(folder: Path, *, seed: int, subjects: int) -> Planted:
    """Write phantoms as a table of pictures, their patients under names of their own, and return what was planted."""
    cohort = Phantom(subjects=subjects, seed=seed, site="site-a").read(pseudonyms=Pseudonyms(bytes(32)))
    return written(folder, f"{NAMED}-{seed}", (cohort.of(subject)[0] for subject in cohort.subjects))


def written(folder: Path, named: str, studies: Iterable[Study]) -> Planted:
    """Write one study for each patient `named`-000, -001, …; return the names, and rows that are nobody else's.

    A row is taken of a picture as it lies there, and of the same picture in the size that a hospital works with.
    """
    folder.mkdir(parents=True)
    rows, names, pictures = set(), [], 0
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "view", "phase", "image", "mask"])
        for k, study in enumerate(studies):
            patient = f"{named}-{k:03d}"
            names.append(patient.encode())
            for clip in study.clips:
                for phase, at in (("ED", clip.ed_frame), ("ES", clip.es_frame)):
                    image, mask = (f"{patient}_{clip.view.value}_{phase}{end}.png" for end in ("", "_gt"))
                    Image.fromarray(clip.pixels[at]).save(folder / image)
                    Image.fromarray(clip.masks[at]).save(folder / mask)
                    writer.writerow([patient, clip.view.value, phase, image, mask])
                of_it = [
                    _middle(clip.pixels[clip.ed_frame]),
                    _middle(resize(clip.pixels[clip.ed_frame], SIZE, nearest=False)),
                ]
                if pictures < ROWS and all(
                    len(set(row)) > WIDTH // 2 for row in of_it
                ):  # no row that could be anybody's
                    rows.update(of_it)
                    pictures += 1
    assert pictures == ROWS
    return Planted(tuple(names), tuple(sorted(rows)))


def _middle(picture: NDArray[np.uint8]) -> bytes:
    row = picture[len(picture) // 2]
    return row[len(row) // 2 - WIDTH // 2 :][:WIDTH].tobytes()


def values(database: Path) -> Iterator[bytes]:
    """Return every value of every table of Flower's database, whole, however its pages are scattered."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        for (table,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in opened.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  (names are Flower's)
                yield from (v if isinstance(v, bytes) else str(v).encode() for v in row if v is not None)
