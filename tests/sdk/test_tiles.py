"""Large frames in tiles: the same result as in one piece."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import stylesdk.tiles
from styleexport.onnx_from_checkpoint import onnx_from_generator
from stylesdk import Manifest, Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.live.scene import render_frame
from stylesdk.tiles import TILE, tiles_for
from styletrainer.generators import build_generator

STRIDE = 8


def generator() -> torch.nn.Module:
    """A random network of the real-time family, in which far pixels count, as they do after training."""
    torch.manual_seed(0)
    network = build_generator("realtime", {"size": "nano"}).eval()
    with torch.no_grad():
        for conv in network.trunk:  # type: ignore[union-attr]
            conv.affine[:, 0].mul_(2)
    return network


REACH = int(generator().reach)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network in the frame contract; its manifest does not know its reach."""
    manifest = Manifest("nano", ("nano",), STRIDE, "fp32", "Apache-2.0")
    path = tmp_path_factory.mktemp("model") / "nano.onnx"
    path.write_bytes(onnx_from_generator(generator(), manifest))
    return path


def opened(path: Path, reach: int) -> Stylizer:
    stylizer = Stylizer(path, device="cpu", threads=1)
    assert stylizer.manifest is not None
    stylizer._backend.manifest = replace(stylizer.manifest, reach=reach)
    return stylizer


def difference(path: Path, frame: np.ndarray, reach: int) -> int:
    with opened(path, 0) as whole, opened(path, reach) as tiled:
        return int(np.abs(whole.run(frame).astype(int) - tiled.run(frame)).max())


@pytest.mark.parametrize("model", ["starry_night", "wave.int8", "six:udnie"])
def test_shipped_tiles_equal_the_whole(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    frame = render_frame(30, 100, (700, 1000))
    results = []
    for side in (TILE, 384):
        monkeypatch.setattr(stylesdk.tiles, "TILE", side)
        with Stylizer(model, device="cpu", runtime="onnxruntime", threads=1) as stylizer:
            results.append(stylizer.run(frame).astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


@pytest.mark.parametrize("size", [(720, 960), (501, 803), (400, 1501), (1001, 390), (100, 2000)])
def test_tiles_equal_the_whole(nano: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.setattr(stylesdk.tiles, "TILE", 384)
    assert tiles_for(size, REACH, STRIDE) is not None
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    frame[: size[0] // 2] = 30  # dark and even: there a network's border is seen
    assert difference(nano, frame, REACH) <= 1


def test_less_overlap_would_be_seen(nano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of equality can fail."""
    monkeypatch.setattr(stylesdk.tiles, "TILE", 384)
    frame = np.random.default_rng(0).integers(0, 256, (501, 803, 3), np.uint8)
    assert difference(nano, frame, 16) > 1


def test_reach_is_the_receptive_field() -> None:
    """No pixel beyond it counts, the last one within does."""
    folded = generator().fold().double()  # type: ignore[operator]
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.1)  # nothing cancels, no ReLU is dead
        for conv in folded.modules():
            if isinstance(conv, torch.nn.Conv2d):
                conv.weight.div_(conv.weight.sum((1, 2, 3), keepdim=True))
    reaches = set()
    for column in range(200, 208):  # every place within a cell
        x = torch.rand(1, 3, 16, 416, dtype=torch.double, requires_grad=True)
        folded(x)[0, :, 8, column].sum().backward()
        assert x.grad is not None
        used = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
        reaches |= {column - int(used.min()), int(used.max()) - column}
    assert max(reaches) == REACH


@pytest.mark.parametrize("seed", range(60))
def test_tiles_cover_the_frame_once_and_for_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    reach, stride = int(random.integers(1, 700)), int(random.choice([1, 4, 8, 32]))
    length = int(random.integers(1, 20_000))
    size, starts = stylesdk.tiles._along(length, reach, stride)
    assert all(start % stride == 0 for start in starts)
    assert size % stride == length % stride, "the graph pads a tile as it would pad the frame"
    assert starts[0] == 0 and starts[-1] + size == length
    assert all(a < b and b + reach <= a + size - reach for a, b in pairwise(starts)), "a gap"
    assert size <= max(TILE, 4 * reach) + 2 * stride


@pytest.mark.parametrize(
    ("size", "reach", "count"),
    [
        ((1440, 2560), 129, None),
        ((2160, 3840), 129, (2, 3)),
        ((4320, 7680), 129, (3, 5)),
        ((300, 20_000), 129, (1, 12)),
        ((4320, 7680), 0, None),
        ((4320, 7680), 3000, (1, 1)),
    ],
)
def test_how_many(size: tuple[int, int], reach: int, count: tuple[int, int] | None) -> None:
    tiles = tiles_for(size, reach, STRIDE)
    assert (tiles and (len(tiles.rows), len(tiles.columns))) == count


def test_any_backend_runs_tile_by_tile(frame: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stylesdk.tiles, "TILE", 64)
    backend = FakeBackend(styles=("invert", "grey"))
    assert backend.manifest is not None
    backend.manifest = replace(backend.manifest, reach=10)
    with Stylizer(backend=backend) as stylizer:
        np.testing.assert_array_equal(stylizer.run(frame), 255 - frame)
        assert backend.frames == 3 * 4
        np.testing.assert_array_equal(stylizer.run(frame, 0.0, keep_color=True), frame)
        assert (stylizer.run(frame, style="grey") == 50).all()


def test_engine_of_a_fixed_size_is_left_alone() -> None:
    backend = FakeBackend(canvas=(2160, 3840))
    assert backend.manifest is not None
    backend.manifest = replace(backend.manifest, reach=10)
    with Stylizer(backend=backend) as stylizer:
        stylizer.run(np.zeros((2160, 3840, 3), np.uint8))
    assert backend.frames == 1
