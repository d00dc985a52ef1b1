"""Several styles in one model: names, blends, what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stylesdk
from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.live.scene import render_frame
from stylesdk.manifest import Manifest, manifest_from_json
from stylesdk.mix import split_style, weights_from_style
from tiny_models import LEVELS, painting_onnx

NAMES = ("wave", "udnie", "scream")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    path = tmp_path / "three.onnx"
    path.write_bytes(painting_onnx(NAMES, 3))
    return path


@pytest.mark.parametrize(
    ("style", "level"),
    [
        (None, LEVELS[0]),
        ("wave", LEVELS[0]),
        ("scream", LEVELS[2]),
        ({"udnie": 0.5}, LEVELS[1]),
        ({"wave": 0.75, "udnie": 0.25}, 60),
        ({"udnie": 1, "wave": 3, "scream": 0}, 60),
        ({"wave": 1e308, "udnie": 1e308}, 80),
        ({"wave": 5e-324, "udnie": 5e-324}, 80),
    ],
)
def test_known_answers(three: Path, frame: np.ndarray, style: Any, level: int) -> None:
    with Stylizer(three) as stylizer:
        assert stylizer.styles == NAMES
        assert (stylizer.run(frame, 1.0, style) == level).all()
        np.testing.assert_array_equal(stylizer.run(frame, 0.0, style), frame)
        assert [int(out[0, 0, 0]) for out in stylizer.stream([frame, frame], style=style)] == [level, level]


@pytest.mark.parametrize(
    ("suffix", "level", "default"),
    [
        ("", LEVELS[0], {"wave": 1.0}),
        (":udnie", LEVELS[1], {"udnie": 1.0}),
        (":wave=3,udnie=1", 60, {"wave": 0.75, "udnie": 0.25}),
        (": wave = 0.75 , udnie = 0.25 ", 60, {"wave": 0.75, "udnie": 0.25}),
        (":wave,udnie", 80, {"wave": 0.5, "udnie": 0.5}),
    ],
)
def test_default_is_what_the_name_says(
    three: Path, frame: np.ndarray, suffix: str, level: int, default: dict[str, float]
) -> None:
    with Stylizer(f"{three}{suffix}") as stylizer:
        assert stylizer.default_style == default
        assert (stylizer.run(frame) == level).all()
        assert (stylizer.run(frame, style="scream") == LEVELS[2]).all()
        assert (stylizer.run(frame) == level).all(), "a style asked for once is not kept"


def test_fake_mixes_too(frame: np.ndarray) -> None:
    with Stylizer(backend=FakeBackend(styles=NAMES)) as stylizer:
        np.testing.assert_array_equal(stylizer.run(frame), 255 - frame)
        assert (stylizer.run(frame, style="scream") == 100).all()
        assert (stylizer.run(frame, style={"udnie": 1, "scream": 1}) == 75).all()


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_single_style_knows_its_own_name_only(frame: np.ndarray, strength: float) -> None:
    with Stylizer("starry_night:starry_night", device="cpu") as stylizer:
        assert stylizer.default_style == {"starry_night": 1.0}
        np.testing.assert_array_equal(
            stylizer.run(frame, strength, "starry_night"), stylizer.run(frame, strength, {"starry_night": 7})
        )
        with pytest.raises(stylesdk.StyleError, match=r"'wave'(.|\n)*one of starry_night"):
            stylizer.run(frame, style="wave")
    with pytest.raises(stylesdk.StyleError, match=r"'wave'(.|\n)*one of starry_night"):
        Stylizer("starry_night:wave")


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("nope", "'nope'.*one of wave, udnie, scream"),
        ({"wave": 1, "nope": 0}, "'nope'"),
        ("", "''"),
        ({}, "at least one above 0"),
        ({"wave": 0.0}, "at least one above 0"),
        ({"wave": 1, "udnie": -0.1}, "none below 0"),
        ({"wave": math.nan}, "nan"),
        ({"wave": 1, "udnie": math.inf}, "inf"),
        ({"wave": "much"}, "much"),
        ({"wave": None}, "None"),
        (1, "type int"),
        (np.ones(3, np.float32), "type ndarray"),
    ],
)
def test_styles_that_do_not_mix(frame: np.ndarray, style: Any, words: str) -> None:
    with Stylizer(backend=FakeBackend(styles=NAMES)) as stylizer:
        with pytest.raises(stylesdk.StyleError, match=f"(?s)got:.*{words}") as caught:
            stylizer.run(frame, style=style)
        assert isinstance(caught.value, ValueError)
        assert stylizer.latency["total"].count == 0


@pytest.mark.parametrize("text", ["six:", "six:wave=", "six:wave=much", "six:wave,wave", "six:=1", "six:wave,,udnie"])
def test_text_that_is_no_style(text: str) -> None:
    with pytest.raises(stylesdk.StyleError, match="NAME=WEIGHT"):
        Stylizer(text)


@pytest.mark.parametrize("text", ["three.onnx:nope", "three.onnx:wave=-1", "three.onnx:wave=nan"])
def test_backend_is_closed_when_the_style_is_wrong(text: str) -> None:
    backend = FakeBackend(styles=NAMES)
    with pytest.raises(stylesdk.StyleError):
        Stylizer(text, backend=backend)
    assert backend.closed


@pytest.mark.parametrize(
    ("text", "model", "mix"),
    [
        ("six", "six", None),
        ("six:wave", "six", {"wave": 1.0}),
        ("dir/six.onnx:wave=0.7,udnie=.3", "dir/six.onnx", {"wave": 0.7, "udnie": 0.3}),
        (r"C:\models\six.onnx", r"C:\models\six.onnx", None),
        (r"C:\models\six.onnx:wave", r"C:\models\six.onnx", {"wave": 1.0}),
        ("C:/six.onnx", "C:/six.onnx", None),
        ("C:six.onnx", "C:six.onnx", None),
        ("a:b/six.onnx", "a:b/six.onnx", None),
        (":wave", ":wave", None),
    ],
)
def test_colons(text: str, model: str, mix: dict[str, float] | None) -> None:
    assert split_style(text) == (model, mix)


def test_colon_in_the_name_of_a_file(tmp_path: Path, frame: np.ndarray) -> None:
    path = tmp_path / "today:12.onnx"
    path.write_bytes(painting_onnx(NAMES, 3))
    with Stylizer(path) as stylizer:
        assert (stylizer.run(frame) == LEVELS[0]).all()
    with Stylizer(f"{path}:udnie") as stylizer:
        assert (stylizer.run(frame) == LEVELS[1]).all()


@pytest.mark.parametrize(
    ("styles", "weights", "words"),
    [
        (("wave",), 1, r"shape \[1\]"),
        (("wave",), 2, r"shape \[2\]"),
        (("wave", "udnie"), None, "no input 'style'"),
        (("wave", "udnie"), 3, r"shape \[3\]"),
        (("wave", "udnie"), "S", r"shape \['[S?]'\]"),
    ],
)
def test_graph_and_manifest_that_disagree(
    tmp_path: Path, styles: tuple[str, ...], weights: int | str | None, words: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(painting_onnx(styles, weights))
    with pytest.raises(stylesdk.ModelFileError, match=f"(?s)model.onnx.*wave.*{words}"):
        Stylizer(path)


def test_weights_are_in_the_models_order_and_sum_to_one() -> None:
    weights = weights_from_style({"b": 1, "a": 2}, ("a", "b", "c"))
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, (2 / 3, 1 / 3, 0))


def test_model_without_manifest_has_no_names(frame: np.ndarray) -> None:
    backend = FakeBackend()
    backend.manifest = None
    with Stylizer(backend=backend) as stylizer:
        assert (stylizer.styles, stylizer.default_style) == ((), {})
        np.testing.assert_array_equal(stylizer.run(frame), 255 - frame)
        with pytest.raises(stylesdk.StyleError, match="sidecar"):
            stylizer.run(frame, style="invert")


@pytest.mark.parametrize(
    "change",
    [
        {"styles": []},
        {"styles": ["a", "a"]},
        {"styles": [1]},
        {"styles": [["a"]]},
        {"reach": -1},
        {"reach": "far"},
        {"reach": 1.5},
        {"stride": 0},
        {"stride": None},
    ],
)
def test_manifest_that_promises_nonsense(change: dict[str, Any]) -> None:
    manifest = Manifest("a", ("a",), 8, "fp32", "Apache-2.0", reach=89)
    assert manifest_from_json(manifest.to_json(), "x") == manifest
    text = json.dumps(json.loads(manifest.to_json()) | change)
    with pytest.raises(stylesdk.ModelFileError, match="x, whose manifest"):
        manifest_from_json(text, "x")


def test_manifest_from_before_reach_says_unknown() -> None:
    values = json.loads(replace(Manifest("a", ("a",), 8, "fp32", "CC0"), reach=5).to_json())
    del values["reach"]
    assert manifest_from_json(json.dumps(values), "x").reach == 0


def test_shipped_blend_goes_from_one_style_to_the_other_in_even_steps() -> None:
    """Ten steps from wave to udnie: each changes the picture, none by more than three of ten even ones would."""
    frame = render_frame(30, 100, (120, 160))
    with Stylizer("six", device="cpu", runtime="onnxruntime") as six:
        blends = [six.run(frame, style={"wave": 1 - t / 10, "udnie": t / 10}).astype(int) for t in range(11)]
        alone = [six.run(frame, style=name) for name in ("wave", "udnie")]
    assert np.array_equal(blends[0], alone[0]) and np.array_equal(blends[10], alone[1])
    steps = [float(np.abs(after - before).mean()) for before, after in pairwise(blends)]
    whole = float(np.abs(blends[10] - blends[0]).mean())
    assert whole > 10
    assert min(steps) > 0 and max(steps) < 3 * whole / 10, steps
