"""Fixtures of the batch tests: a tree of pictures and clips, and its styled one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SDK = Path(__file__).resolve().parents[1]
sys.path += [str(SDK), str(SDK / "live")]  # for what other tests share: tiny_models, clips

from batches import IMAGES, clip, job, photo  # noqa: E402

from stylesdk.batch import run_batch  # noqa: E402


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 images and 3 videos, one of them with sound, in two folders."""
    root = tmp_path_factory.mktemp("many")
    for index in range(IMAGES):
        photo(root / ("a", "b/c")[index % 2] / f"{index:03}.{('png', 'jpg')[index % 3 > 0]}", index)
    clip(root / "a" / "silent.mp4")
    clip(root / "b" / "sound.mp4", sound="aac")
    clip(root / "long.mkv", frames=40)
    return root


@pytest.fixture(scope="session")
def styled(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``many`` after a run in one process."""
    output = tmp_path_factory.mktemp("styled")
    assert run_batch(*job(many, output)).done == IMAGES + 3
    return output
