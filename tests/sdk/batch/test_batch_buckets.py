"""Buckets: fsspec's own file systems stand for them, one in memory and one that is this disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from batches import assert_same_trees, clip, job, photo, tree

from stylesdk.batch import run_batch
from stylesdk.batch.places import Bucket, Folder
from stylesdk.errors import SourceError


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    photo(tmp_path / "in" / "sub" / "[1].png")
    photo(tmp_path / "in" / "b.jpg", 9)
    clip(tmp_path / "in" / "sub" / "v.mp4", sound="aac")
    return tmp_path / "in"


def test_bucket_to_bucket_equals_folder_to_folder(few: Path, tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    assert run_batch(*job(few, tmp_path / "here")).done == 3
    memory.put(str(few), "/photos", recursive=True)
    given, files = job("memory://photos/", "memory://styled/deep/")
    assert run_batch(given, files).done == 3
    memory.get("/styled/deep", str(tmp_path / "there"), recursive=True)
    assert_same_trees(tmp_path / "here", tmp_path / "there")
    assert sorted(memory.find("/styled")) == [f"/styled/deep/{name}" for name in sorted(tree(few))]
    assert not any(given.output.scratch(file.output).exists() for file in files)
    assert run_batch(*job("memory://photos", "memory://styled/deep")).skipped == 3


def test_mixed_with_folders(few: Path, tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    assert run_batch(*job(few, "memory://up")).done == 3
    assert run_batch(*job("memory://up/**/*.jpg", tmp_path / "down")).done == 1
    assert tree(tmp_path / "down") == {"b.jpg"}
    assert run_batch(*job(f"local://{few}", f"local://{tmp_path}/out")).done == 3
    assert tree(tmp_path / "out") == tree(few)
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_broken_file_of_a_bucket(few: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.put(str(few), "/photos", recursive=True)
    memory.pipe_file("/photos/bad.jpg", b"no image")
    summary = run_batch(*job("memory://photos", "memory://out"))
    assert (summary.done, list(summary.failed)) == (3, ["bad.jpg"])


def test_what_a_killed_worker_left_is_cleared(few: Path, memory: fsspec.AbstractFileSystem) -> None:
    given, files = job(few, "memory://out")
    place = given.output
    (place.scratch("b.jpg") / "0").mkdir(parents=True)
    for owner in ("b.jpg", "of another run.jpg"):
        key = Folder("/x").scratch(owner).name
        memory.pipe_file(f"/out/.stylesdk-parts/{key}", b"half")
    assert run_batch(given, files).done == 3
    assert not place.scratch("b.jpg").exists()
    assert [path for path in memory.find("/out") if ".stylesdk-parts" in path] == [f"/out/.stylesdk-parts/{key}"]


def test_a_bucket_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("Unable to locate credentials")

    place = Bucket("memory://photos")
    monkeypatch.setattr(type(place._fs), "isdir", refuse)
    with pytest.raises(SourceError, match=r"(?s)memory:///photos: RuntimeError: Unable.*credentials for it"):
        place.is_folder()
