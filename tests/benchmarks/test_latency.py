"""What is asked of speed, on figures that were made up."""

from __future__ import annotations

import shutil
from pathlib import Path

import latency
import pytest

from stylesdk.styles import resolve

# Times the reference: onnxruntime fp32, onnxruntime int8, OpenVINO's best.
WANTED = {"wave.nano": (30.0, 60.0, 90.0), "wave": (15.0, 35.0, 50.0), "wave.base": (8.0, 18.0, 25.0)}
FILES = {
    "fp32 onnxruntime": "onnxruntime fp32",
    "int8 onnxruntime": "onnxruntime int8",
    "int8 openvino": "OpenVINO best",
}
FAMILIES = {"wave.nano": "nano", "wave": "small", "wave.base": "base", "six": ""}
FULL_HD = "wave.nano int8 openvino, at 1920x1080"


def figures() -> dict[str, float]:
    """Every model just fast enough, OpenVINO with the int8 file alone; changing the style costs a tenth."""
    times = {"reference fp32 onnxruntime": 1.0, "reference fp32 openvino": 7.0}
    for model, wanted in WANTED.items():
        times |= {f"{model} {file}": value for file, value in zip(FILES, wanted, strict=True)}
        times[f"{model} fp32 openvino"] = 1.0
    for runtime in ("onnxruntime", "openvino"):
        times |= {f"six fp32 {runtime}": 11.0, f"six fp32 {runtime}, another style every frame": 10.0}
    return times


def missed(times: dict[str, float], full_hd: float = 30.0) -> list[str]:
    return [line.what for line in latency.requirements(times, {FULL_HD: full_hd}, FAMILIES) if not line.met]


def test_all_is_met_at_the_limits() -> None:
    assert len(latency.requirements(figures(), {FULL_HD: 30.0}, FAMILIES)) == 3 * 3 + 1 + 1
    assert missed(figures()) == []


@pytest.mark.parametrize("model", WANTED)
@pytest.mark.parametrize(("file", "what"), FILES.items())
def test_a_model_a_little_too_slow_is_missed_where_it_is(model: str, file: str, what: str) -> None:
    times = figures()
    times[f"{model} {file}"] -= 0.1
    assert missed(times) == [f"{model}: {what}, times the reference"]


@pytest.mark.parametrize("model", WANTED)
def test_of_openvino_the_faster_file_counts(model: str) -> None:
    times = figures()
    fast, slow = (f"{model} {precision} openvino" for precision in ("int8", "fp32"))
    times[fast], times[slow] = times[slow], times[fast]
    assert missed(times) == []


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_another_style_every_frame_costs_too_much_on_one_runtime(runtime: str) -> None:
    times = figures()
    times[f"six fp32 {runtime}, another style every frame"] = 9.9
    assert missed(times) == ["six: another style every frame, times as long"]


def test_frames_a_second_at_full_hd() -> None:
    assert missed(figures(), full_hd=29.9) == [f"{FULL_HD}: frames/s"]


def test_a_file_is_held_to_its_own_size_whatever_its_name(tmp_path: Path) -> None:
    nano = tmp_path / "my base.onnx"
    shutil.copy(resolve("starry_night.nano"), nano)
    (folder := tmp_path / "made").mkdir()
    found = [entry for entry in latency.entries({"my base": nano}, folder, (32, 48)) if entry.model == "my base"]
    assert {entry.family for entry in found} == {"nano"} and [entry.full_hd for entry in found] == [False] * 4 + [True]
    times = {entry.label: 89.0 for entry in found}
    lines = latency.requirements(times, {}, {"my base": "nano"})
    assert [(line.at_least, line.met) for line in lines] == [(30, True), (60, True), (90, False)]
    assert latency.requirements(times, {}, {"my base": ""}) == [], "of another network nothing is asked"
