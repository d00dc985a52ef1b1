"""What a batch reads and writes, and what it refuses before work starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from batches import clip, photo
from fsspec.implementations.memory import MemoryFileSystem

from stylesdk.batch import plan_batch
from stylesdk.batch.places import absolute
from stylesdk.errors import MissingExtraError, SinkError, SourceError


def names(source: object, output: object) -> list[tuple[str, str]]:
    return [tuple(file) for file in plan_batch(str(source), str(output))[2]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for name in ("b.JPG", "sub/a.png", "sub/deep/c.webp", ".hidden/d.png", "sub/._b.png", "[1].png"):
        photo(root / name)
    for name in ("z.avi", "sub/y.mp4", "notes.txt"):
        (root / name).write_bytes(b"not looked into yet")
    return root


def test_a_folder_is_mirrored_videos_first(folder: Path, tmp_path: Path) -> None:
    assert names(folder, tmp_path / "out") == [
        ("sub/y.mp4", "sub/y.mp4"),
        ("z.avi", "z.mp4"),
        ("[1].png", "[1].png"),
        ("b.JPG", "b.JPG"),
        ("sub/a.png", "sub/a.png"),
        ("sub/deep/c.webp", "sub/deep/c.webp"),
    ]


@pytest.mark.parametrize("scheme", ["", "file://", "local://"])
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("sub/a.png", ["a.png"]),
        ("[1].png", ["[1].png"]),
        ("sub/*.png", ["a.png"]),
        ("*/*.*", ["sub/y.mp4", "sub/a.png"]),
        ("**/*.png", ["[1].png", "sub/a.png"]),
        ("s?b/**/*.webp", ["sub/deep/c.webp"]),
    ],
)
def test_files_and_patterns(folder: Path, tmp_path: Path, scheme: str, pattern: str, found: list[str]) -> None:
    """Names count from the last folder without a wildcard, here and in a bucket."""
    if scheme == "file://":
        pattern = pattern.replace("?", "%3F")
    assert [name for name, _ in names(f"{scheme}{folder}/{pattern}", tmp_path / "out")] == found


def test_relative_paths_and_file_urls(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    origin, place, files = plan_batch("in/sub", f"file://{tmp_path}/with%20space")
    assert (origin.root, place.root, len(files)) == (f"{folder}/sub", f"{tmp_path}/with space", 3)
    assert (tmp_path / "with space").is_dir()
    assert absolute("s3://bucket/folder/") == "s3://bucket/folder"


def test_the_output_is_no_input(folder: Path, tmp_path: Path) -> None:
    before = names(folder, tmp_path / "out")
    photo(folder / "out" / "b.JPG")
    assert names(folder, folder / "out") == before
    assert ("out/b.JPG", "out/b.JPG") in names(folder, tmp_path / "out")
    assert ("out/b.JPG", "out/b.JPG") in names(folder, f"{folder}/ou")


def test_an_input_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    photo(folder / "sub" / "sub" / "a.png")
    for source, output in (
        (folder, folder),
        (folder, tmp_path / "link"),
        (folder / "b.JPG", folder),
        (folder, f"local://{folder}/"),
        (folder / "sub", folder),
    ):
        with pytest.raises(SinkError, match="which is an input"):
            plan_batch(str(source), str(output))


def test_one_output_of_two_inputs_is_refused(folder: Path, tmp_path: Path) -> None:
    clip(folder / "sub" / "y.avi", sound=None)
    with pytest.raises(SinkError, match=r"sub/y\.avi and sub/y\.mp4, which would both become sub/y\.mp4"):
        plan_batch(str(folder), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such file"),
        ("nowhere/*.png", "no image or video"),
        ("in/notes.txt", "no image or video"),
        ("local:///nowhere/at/all", "no such file"),
        ("file://elsewhere/in", "another machine"),
        ("nonsense://in", "nonsense"),
    ],
)
def test_sources_without_anything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message):
        plan_batch(source, "out")
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below", f"local://{tmp_path}/file"):
        with pytest.raises(SinkError, match="file"):
            plan_batch(str(folder), str(output))
    assert (tmp_path / "file").read_bytes() == b""


def test_a_bucket_without_its_package_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where they are not installed.
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match=r"(?s)s3fs.*stylesdk\[buckets\]"):
        plan_batch("s3://bucket/photos", "out")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r"(?s)fsspec.*stylesdk\[buckets\]"):
        plan_batch("memory://photos", "out")


def test_names_that_would_lead_out_of_the_output(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"without '\.\.'"):
        plan_batch(f"{folder}/*/../b.*", str(tmp_path / "out"))
    # Keys of a bucket are any text; fsspec's memory tidies them up.
    monkeypatch.setattr(MemoryFileSystem, "isdir", lambda *given: True)
    for key, refusal in (("/keys//etc/x.png", "got: the name '/etc/x.png'"), ("/keys/../x.png", "no image")):
        monkeypatch.setattr(MemoryFileSystem, "find", lambda *given, key=key: [key])
        with pytest.raises(SourceError, match=refusal):
            plan_batch("memory://keys", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_no_text(folder: Path, tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(SourceError, match="a name in UTF-8"):
        plan_batch(str(folder), str(tmp_path / "out"))
