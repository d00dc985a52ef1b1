"""A frame in tiles beside the same in one piece."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import large
import numpy as np
import onnx
import pytest

import stylesdk.tiles
from styleexport.fp16_from_onnx import sealed
from stylesdk.errors import StyleSDKError
from stylesdk.manifest import read_model_file
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve


def claiming(reach: int, path: Path) -> Path:
    """The bundled nano model, as if a pixel depended on no more than ``reach`` around it."""
    data = read_model_file(resolve("starry_night.nano"))
    manifest = dataclasses.replace(manifest_from_onnx(data, "nano"), reach=reach)
    path.write_bytes(sealed(onnx.load_model_from_string(data), manifest))
    return path


def test_both_ways_in_processes_of_their_own(tmp_path: Path) -> None:
    size = (stylesdk.tiles.TILE + 40, stylesdk.tiles.TILE)  # hardly too large for one piece
    found = large.measured("starry_night.nano", "onnxruntime", size, tmp_path)
    assert found["largest_difference"] <= 1
    for way in ("tiles", "whole"):
        assert found[way]["seconds"] > 0 and found[way]["peak_bytes"] > np.prod(size) * 3 * 2, "both pictures at least"
        styled = np.load(tmp_path / f"{way}.npy")
        assert np.abs(styled.astype(int) - large.large_frame(*size)).mean() > 10


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(read_model_file(resolve("starry_night.nano"))[:-100])
    with pytest.raises(StyleSDKError, match=r"broken\.onnx on onnxruntime, tiles: got: .*broken\.onnx"):
        large.measured(str(broken), "onnxruntime", (40, 40), tmp_path)


@pytest.mark.parametrize("honest", [True, False])
def test_tiles_show_where_the_reach_is_wrong(honest: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One way cuts the frame and the other does not: else a wrong reach would not show either."""
    model = resolve("starry_night.nano") if honest else claiming(8, tmp_path / "claiming.onnx")
    monkeypatch.setattr(stylesdk.tiles, "TILE", 256)  # put back what `whole` changes for its process
    for way in ("tiles", "whole"):
        large.style_once(str(model), "onnxruntime", (600, 700), way == "whole", tmp_path / f"{way}.npy")
    tiles, whole = (np.load(tmp_path / f"{way}.npy").astype(int) for way in ("tiles", "whole"))
    assert (np.abs(tiles - whole).max() <= 1) == honest
