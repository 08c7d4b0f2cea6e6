"""Files that nobody made on purpose, and files that somebody did, of every layout, read in a process of its own.

A worker builds the tiny cohort of a reader, damages one file of it at a time and reads everything. It writes a line a
case, so that whoever started it knows at which one it died. `python -m tests.hostile READER SEED COUNT FOLDER`.
"""

import gzip
import importlib
import io
import json
import random
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
import zipfile
import zlib
from pathlib import Path

SECONDS_MAX = 10
WORDS = ("nan", "inf", "-1", "1e400", "99999999999999999999", "../../../../etc/passwd", "/etc/passwd", "\x00", "=1+1",
         "a\tb", '"', "\u202e", "0", "", "true", "-0.0", "1e-320", "..", "C:\\", "x" * 200_000)  # fmt: skip


def png(width, height):
    """Return a PNG that promises more pixels than it holds."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def npy(shape):
    """Return the header of an array that is not there."""
    words = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words


def zipped():
    """Return a small archive of a large file."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(2**27))
    return raw.getvalue()


BOMBS = (
    png(2**31 - 1, 2**31 - 1), png(30_000, 30_000), npy((2**40, 2**20)), npy((4, 2**16, 2**16)), zipped(),
    gzip.compress(bytes(2**28)), b"", b"\x00" * 4096, b"#EXTM3U\nhttp://127.0.0.1:9/x\n",
    b"\x89HDF\r\n\x1a\n" + bytes(500), b"RIFF\xff\xff\xff\xffAVI LIST" + b"\xff" * 400, b"DICM".rjust(132, b"\0") * 40,
)  # fmt: skip


def mutate(data, others, dice):
    """Return what kind of damage was done, and the damaged bytes."""
    raw = bytearray(data)
    kind = dice.choice(("bits", "cut", "header", "numbers", "grow", "zeros", "repeat", "word", "bomb"))
    at = dice.randrange(len(raw)) if raw else 0
    if kind == "bits":
        for _ in range(dice.choice((1, 1, 3, 20, 200))):
            if raw:
                raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    elif kind == "cut":
        del raw[at:]
    elif kind == "header":
        other = dice.choice(others)
        n = dice.choice((4, 16, 128, 348, 1024))
        raw[:n] = other[:n]
    elif kind == "numbers":
        start = dice.randrange(min(len(raw), 2048) or 1)  # headers stand in front
        width = dice.choice((1, 2, 4, 8))
        raw[start : start + width] = dice.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * width
    elif kind == "grow":
        raw[at:at] = dice.randbytes(dice.choice((1, 100, 10_000)))
    elif kind == "zeros":
        n = dice.choice((8, 64, 1024))
        raw[at : at + n] = bytes(len(raw[at : at + n]))
    elif kind == "repeat":
        raw[at:at] = raw[at : at + 4096] * dice.choice((1, 30))
    elif kind == "word":
        cells = bytes(raw).replace(b"\n", b",").split(b",")
        if len(cells) > 1:
            old = dice.choice(cells)
            raw = bytearray(bytes(raw).replace(old, dice.choice(WORDS).encode(), 1)) if old else raw
    else:
        raw = bytearray(dice.choice(BOMBS))
    return kind, bytes(raw)


def read_all(config):
    """Read every subject; return "read", or "refused" where it says what is wrong with which file."""
    from cohorts.deidentify import Pseudonyms
    from cohorts.study import UnreadableStudy

    said = []
    try:
        cohort = config.read(pseudonyms=Pseudonyms(b"the key of site a stays there"))
        for subject in cohort.subjects:
            try:
                cohort.of(subject)
            except UnreadableStudy as problem:
                said.append(problem)
        said += cohort.left_out
    except UnreadableStudy as problem:
        said.append(problem)
    for problem in said:
        text = str(problem)
        if "\n" in text or not problem.key or not problem.reason or len(text) > 5000:
            raise AssertionError(f"a refusal that names nothing, or too much: {text[:200]!r}")
    return "refused" if said else "read"


def remembered(read, whole):
    """Return a reader of headers that asks once of a file that is `whole`: a case damages one, and reads them all."""
    known = {}

    def header(path):
        if path.read_bytes() != whole.get(path):
            return read(path)
        if path not in known:
            known[path] = read(path)
        return known[path]

    return header


def main(reader, seed, count, folder):
    """Run `count` cases; one JSON line each on stdout."""
    dice = random.Random(seed)
    home = Path(folder) / f"{reader}-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    config = importlib.import_module(f"tests.contracts.builders.{reader}").build(home)
    files = sorted(path for path in home.rglob("*") if path.is_file() and path.stat().st_size)
    whole = {path: path.read_bytes() for path in files}
    module = importlib.import_module(type(config).__module__)
    if hasattr(module, "read_header"):
        module.read_header = remembered(module.read_header, whole)
    tables = [path for path in files if path.suffix in {".csv", ".cfg", ".txt", ".json", ".mhd"}]
    assert read_all(config) == "read"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(count):
        path = dice.choice(tables if tables and dice.random() < 0.25 else files)
        kind, damaged = mutate(whole[path], list(whole.values()), dice)
        tell = {"reader": reader, "case": case, "file": path.name, "kind": kind}
        print(json.dumps(tell), flush=True)
        path.write_bytes(damaged)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_MAX)  # the default of SIGALRM ends even a decoder that hangs
        start = time.perf_counter()
        try:
            came = read_all(config)
        except Exception:
            came = "bug: " + traceback.format_exc()[-1500:]
        signal.setitimer(signal.ITIMER_REAL, 0)
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(
            json.dumps({"came": came, "seconds": round(time.perf_counter() - start, 3), "MiB": round(peak)}), flush=True
        )
        path.write_bytes(whole[path])
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
