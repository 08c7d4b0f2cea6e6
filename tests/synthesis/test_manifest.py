import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesis.manifest import MANIFEST, Differences, Entry, MalformedManifest, Manifest, StrangeFile, merkle_root

ZERO = "0" * 64


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


FILES = {"images/0.png": b"zero", "images/1.png": b"one", "labels.csv": b"a,b\n"}


def test_a_folder_equals_its_own_manifest(tmp_path: Path) -> None:
    manifest = Manifest.of(fill(tmp_path, FILES))
    (tmp_path / MANIFEST).write_bytes(manifest.canonical)
    assert [e.path for e in manifest.files] == sorted(FILES)
    assert not manifest.compare(tmp_path)
    assert Manifest.of(tmp_path) == manifest


def test_what_differs_is_named(tmp_path: Path) -> None:
    manifest = Manifest.of(fill(tmp_path, FILES))
    (tmp_path / "images/0.png").rename(tmp_path / "images/O.png")
    (tmp_path / "images/1.png").write_bytes(b"One")
    (tmp_path / "sub" / MANIFEST).parent.mkdir()
    (tmp_path / "sub" / MANIFEST).write_bytes(b"{}")
    assert manifest.compare(tmp_path) == Differences(
        added=("images/O.png", f"sub/{MANIFEST}"), removed=("images/0.png",), changed=("images/1.png",)
    )


def test_two_files_swapped_are_both_named(tmp_path: Path) -> None:
    manifest = Manifest.of(fill(tmp_path, {"a": b"1", "b": b"2"}))
    fill(tmp_path, {"a": b"2", "b": b"1"})
    assert manifest.compare(tmp_path).changed == ("a", "b")
    assert Manifest.of(tmp_path).root != manifest.root


@pytest.mark.parametrize("target", ["labels.csv", "images", "nowhere"])
def test_a_link_is_never_followed(tmp_path: Path, target: str) -> None:
    manifest = Manifest.of(fill(tmp_path, FILES))
    (tmp_path / "images/link").symlink_to(tmp_path / target)
    with pytest.raises(StrangeFile, match="images/link is a link"):
        manifest.compare(tmp_path)


def test_a_file_replaced_by_a_link_to_equal_bytes_is_refused(tmp_path: Path) -> None:
    manifest = Manifest.of(fill(tmp_path / "release", FILES))
    (tmp_path / "elsewhere").write_bytes(b"one")
    (tmp_path / "release/images/1.png").unlink()
    (tmp_path / "release/images/1.png").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StrangeFile, match=r"1\.png is a link"):
        manifest.compare(tmp_path / "release")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(fill(tmp_path, FILES) / "pipe")
    with pytest.raises(StrangeFile, match="pipe is neither"):
        Manifest.of(tmp_path)


def test_the_merkle_root_is_that_of_rfc_6962() -> None:
    a, b, c = (hashlib.sha256(x).digest() for x in (b"a", b"b", b"c"))
    left = hashlib.sha256(b"\x01" + a + b).digest()
    assert merkle_root([a]) == a
    assert merkle_root([a, b, c]) == hashlib.sha256(b"\x01" + left + c).digest()
    assert merkle_root([a, b, c]) != merkle_root([a, b, c, c])
    with pytest.raises(ValueError, match="empty"):
        merkle_root([])


def test_a_leaf_binds_name_size_and_content() -> None:
    one = Entry("a", 1, ZERO)
    assert len({one.leaf, Entry("b", 1, ZERO).leaf, Entry("a", 2, ZERO).leaf, Entry("a", 1, "1" * 64).leaf}) == 4
    bound = (1).to_bytes(8, "big") + b"a" + (1).to_bytes(8, "big") + bytes(32)
    assert one.leaf == hashlib.sha256(b"\x00" + bound).digest()


paths = st.lists(st.text("ab0_", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join)
entries = st.builds(Entry, paths, st.integers(0, 2**40), st.binary(min_size=32, max_size=32).map(bytes.hex))


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=8, unique_by=lambda e: e.path))
def test_a_manifest_reads_back_as_it_was(files: list[Entry]) -> None:
    manifest = Manifest(files=tuple(sorted(files)))
    assert Manifest.parse(manifest.canonical) == manifest


@settings(deadline=None)
@given(st.lists(entries, min_size=2, max_size=8, unique_by=lambda e: e.path), st.data())
def test_no_flipped_bit_of_a_manifest_leaves_its_digest(files: list[Entry], data: st.DataObject) -> None:
    manifest = Manifest(files=tuple(sorted(files)))
    raw = bytearray(manifest.canonical)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = Manifest.parse(bytes(raw))
    except MalformedManifest:
        return
    assert (other.digest, other.root) != (manifest.digest, manifest.root)
    assert other.digest != manifest.digest


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\\b", "C:x", "a\0b", "a\nb", "a\u202eb", "e\u0301"],
)
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(MalformedManifest, match="not a portable relative path"):
        Entry(path, 1, ZERO)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "Expecting"),
        (b"[]", "exactly the entries"),
        (b'{"files":[],"version":1}', "at least one file"),
        (b'{"files":{},"version":1}', "must be a list"),
        (b'{"files":[1],"version":1}', "path, sha256 and size"),
        (b'{"files":[{"path":"a","sha256":"%s","size":1.0}],"version":1}' % ZERO.encode(), "whole number"),
        (b'{"files":[{"path":"a","sha256":"%s","size":true}],"version":1}' % ZERO.encode(), "whole number"),
        (b'{"files":[{"path":"a","sha256":"%s","size":-1}],"version":1}' % ZERO.encode(), "negative"),
        (b'{"files":[{"path":"a","sha256":"%s","size":1}],"version":1}' % (b"G" * 64), "64 hexadecimal"),
        (b'{"files":[{"path":"a","sha256":"%s","size":1}],"version":2}' % ZERO.encode(), "version 1"),
        (b'{"files":[{"path":"a","sha256":"%s","size":1}], "version":1}' % ZERO.encode(), "not canonical"),
        (b'{"files":[{"path":"a","path":"b","sha256":"%s","size":1}],"version":1}' % ZERO.encode(), "written twice"),
        (b'{"files":[{"path":"manifest.json","sha256":"%s","size":1}],"version":1}' % ZERO.encode(), "list itself"),
    ],
)
def test_a_malformed_manifest_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(MalformedManifest, match=says):
        Manifest.parse(raw)


def test_a_truncated_manifest_is_refused() -> None:
    raw = Manifest(files=(Entry("a", 1, ZERO), Entry("b", 1, ZERO))).canonical
    for end in range(len(raw)):
        with pytest.raises(MalformedManifest):
            Manifest.parse(raw[:end])


@pytest.mark.parametrize("paths", [["b", "a"], ["a", "a"], ["A", "a"]])
def test_paths_are_sorted_and_different_on_every_disk(paths: list[str]) -> None:
    with pytest.raises(MalformedManifest, match=r"sorted|case only"):
        Manifest(files=tuple(Entry(path, 1, ZERO) for path in paths))
