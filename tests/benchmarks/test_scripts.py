"""The two scripts from end to end on the bundled style, and what they ask of figures."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import model_files
import numpy as np
import pytest
import quality
import temporal
import typer
from pictures import Photo, held_out_kinds, one_of_a_kind, photos_from, sheet, write_picture
from reports import Requirement, conclude, run_script
from rich.console import Console
from textures import texture

from stylesdk.live.sources import SourceFrame
from stylesdk.live.video_sink import VideoSink
from stylesdk.styles import resolve


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos, one of them upright, and STYLE.jpg."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, (height, width) in {"a": (64, 96), "b": (96, 64)}.items():
        cv2.imwrite(str(folder / f"{name}.png"), texture(height, width))
    cv2.imwrite(str(tmp_path / "starry_night.jpg"), texture(64, 64, seed=2))
    return folder


@pytest.mark.parametrize(
    ("model", "style", "opened"),
    [
        ("{file}", "starry_night", "{file}"),
        ("{file}:{photo}", "a", "{file}:{photo}"),  # the style of a picture, named like it
    ],
)
def test_a_model_is_opened_in_the_style_that_it_was_named_with(
    photos: Path, monkeypatch: pytest.MonkeyPatch, model: str, style: str, opened: str
) -> None:
    names = {"file": str(resolve("starry_night")), "photo": str(photos / "a.png")}
    asked: list[str] = []
    monkeypatch.setattr(model_files, "Stylizer", lambda model, **_: asked.append(str(model)))
    [subject] = model_files.subjects_of(model.format(**names), photos)
    subject.open()
    assert (subject.style, asked) == (style, [opened.format(**names)])


def make_clip(path: Path, frames: list[np.ndarray]) -> Path:
    sink = VideoSink(path, None, Fraction(25))
    for image in frames:
        sink.write(image, SourceFrame(image, "", None, None, None))
    sink.close()
    return path


def test_quality(photos: Path, thin_vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "CACHE", tmp_path / "optimum.json")
    monkeypatch.setattr(quality, "PHOTO_SIDE", 32)
    monkeypatch.setattr(quality, "ARTWORK_SIDE", 32)
    output, picture = tmp_path / "new" / "quality.json", tmp_path / "sheet.png"
    common: dict[str, Any] = {"photos": photos, "artworks": tmp_path, "vgg": [thin_vgg], "output": output}
    quality.main(reference=["starry_night=starry_night"], sheet_path=picture, **common)
    first = json.loads(output.read_text(encoding="utf-8"))
    found = first["models"]["starry_night"]
    assert first["photos"] == ["a", "b"]
    assert found["over_optimum"]["photos"].keys() == {"a", "b"}
    assert {name: entry["reference"] for name, entry in first["models"].items()} == {
        "starry_night": False,
        "starry_night (reference)": True,
    }
    assert 1 <= found["over_optimum"]["median"] <= found["over_optimum"]["worst"]
    assert found["in_larger"] not in (0, 1), "another picture than the one without a larger one around it"
    assert cv2.imread(str(picture)).shape[1] == 3 * (96 + 4), "photo, style, reference, as wide as the widest"
    cached = (tmp_path / "optimum.json").read_bytes()
    quality.main(only_cached=True, **common)
    assert json.loads(output.read_text())["models"]["starry_night"]["over_optimum"] == found["over_optimum"]
    assert (tmp_path / "optimum.json").read_bytes() == cached


def test_in_larger_sees_no_border() -> None:
    """A style that draws a bright frame along the border, and nothing else."""

    class Framing:
        def run(self, frames: list[np.ndarray]) -> list[np.ndarray]:
            styled = [frame.copy() for frame in frames]
            for frame in styled:
                frame[:9] = frame[-9:] = frame[:, :9] = frame[:, -9:] = 255  # type: ignore[call-overload]
            return styled

    photo = texture(40, 56)
    [inside] = quality.in_larger(Framing(), [photo])  # type: ignore[arg-type]
    np.testing.assert_array_equal(inside, photo)


def test_quality_with_references_of_an_earlier_result(photos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    quality.main(photos=photos, reference=["starry_night=wave"], output=first)
    quality.main(photos=photos, references_from=first, output=second)
    before, now = (json.loads(path.read_text(encoding="utf-8"))["models"] for path in (first, second))
    assert now["wave (reference)"] == before["wave (reference)"] and list(now) == ["starry_night", "wave (reference)"]
    quality.main(photos=photos, reference=["starry_night=udnie"], references_from=first, output=second)
    assert list(json.loads(second.read_text(encoding="utf-8"))["models"]) == ["starry_night", "udnie (reference)"]
    judged = json.loads(first.read_text(encoding="utf-8")) | {"perceptual_weights": "a" * 64}
    (tmp_path / "judged.json").write_text(json.dumps(judged), encoding="utf-8")
    same = {"photos": ["a", "b"], "perceptual_weights": "a" * 64}
    with pytest.raises(
        typer.BadParameter, match=r"without losses of wave \(reference\); expected: made with --artworks"
    ):
        quality._references(tmp_path / "judged.json", same)
    with pytest.raises(typer.BadParameter, match=r"judged\.json, with other perceptual_weights; expected: those"):
        quality._references(tmp_path / "judged.json", same | {"perceptual_weights": "b" * 64})
    with pytest.raises(typer.BadParameter, match=r"first\.json, without models, photos, perceptual_weights; expected"):
        quality._references(first, same)
    (photos / "b.png").unlink()
    with pytest.raises(typer.BadParameter, match=r"first\.json, with other photos; expected: those of this run"):
        quality.main(photos=photos, references_from=first)
    with pytest.raises(typer.BadParameter, match=r"got: .*third\.json .*expected: a result of this benchmark"):
        quality.main(photos=photos, references_from=tmp_path / "third.json")


def test_quality_without_artworks_needs_no_perceptual_weights(photos: Path, tmp_path: Path) -> None:
    quality.main(photos=photos, output=tmp_path / "quality.json")
    found = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))["models"]["starry_night"]
    assert "loss" not in found and found["fp16"]["mean"] < 1


def test_quality_leaves_photos_with_a_plain_margin_out_of_the_border(photos: Path, tmp_path: Path) -> None:
    quality.main(photos=photos, output=tmp_path / "without.json")
    framed = cv2.copyMakeBorder(texture(64, 96, seed=3), *(40,) * 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.imwrite(str(photos / "c.png"), framed)
    cv2.imwrite(str(photos / "d.png"), texture(30, 30))  # all border
    quality.main(photos=photos, output=tmp_path / "with.json")
    without, framed = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("without", "with"))
    assert (without["photos"], framed["photos"]) == (["a", "b"], ["a", "b", "c", "d"])
    assert framed["models"]["starry_night"]["border"] == without["models"]["starry_night"]["border"]
    for name in ("a", "b"):
        (photos / f"{name}.png").unlink()
    with pytest.raises(typer.BadParameter, match="plain margins"):
        quality.main(photos=photos)


def test_quality_of_a_network_outside_the_family_asks_nothing_of_its_loss() -> None:
    met = [line.what for line in quality.requirements({"mine": figures(size="")})]
    assert met == ["mine: grid", "mine: border over the photo's"]


def test_quality_says_which_style_has_no_artwork(
    photos: Path, thin_vgg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "CACHE", tmp_path / "optimum.json")
    (tmp_path / "starry_night.jpg").unlink()
    quality.main(photos=photos, artworks=tmp_path, vgg=[thin_vgg], output=tmp_path / "quality.json")
    assert "no loss of starry_night: no" in capsys.readouterr().out
    with pytest.raises(typer.BadParameter, match=r"no folder; expected: one with STYLE\.jpg"):
        quality.main(photos=photos, artworks=tmp_path / "nowhere")


def test_models_of_one_name_and_blends_are_refused_before_any_work(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="two models called wave; expected: each once"):
        quality.main(photos=photos, models=["wave", str(resolve("wave"))])
    with pytest.raises(typer.BadParameter, match=r"six:wave=0\.7,udnie=0\.3, a blend; expected: one style"):
        quality.main(photos=photos, models=["six:wave=0.7,udnie=0.3"])
    [alone] = model_files.subjects_of("six:wave", tmp_path)
    assert alone.style == "wave"


def test_a_sheet_is_written_or_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "new" / "sheet.png", texture(8, 8))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "sheet.png")), texture(8, 8))
    with pytest.raises(typer.BadParameter, match=r"sheet\.txt; expected: a path that can be written"):
        write_picture(tmp_path / "sheet.txt", texture(8, 8))


def figures(**changed: Any) -> dict[str, Any]:
    found = {"style": "wave", "size": "small", "reference": False, "of_several": False, "grid": 0.03, "border": 1.0}
    found["images"] = 300
    return found | {"loss": {"total": 1.0}, "over_optimum": {"median": 3.2}} | changed


def test_requirements_of_quality() -> None:
    models = {
        "wave": figures(int8={"mean": 2.5, "grid": 0.06, "border": 1.0}),
        "wave.base": figures(size="base"),
        "gallery:wave": figures(of_several=True, loss={"total": 1.06}),
        "johnson": figures(reference=True, loss={"total": 1.05}, grid=0.3),
    }
    met = {line.what: line.met for line in quality.requirements(models)}
    assert [what for what, good in met.items() if not good] == [
        "wave.int8: grid",
        "wave: int8 to fp32, mean of 255",
        "wave.base: loss over its optimum",  # 3.2 is enough for small only
        "gallery:wave: loss, at most the reference's (300 images seen, the reference 300)",
        "gallery:wave: loss, within 5 % of wave's",
        "gallery:wave: loss, within 5 % of wave.base's",
    ]
    assert not any(what.startswith("johnson") for what in met)


@pytest.mark.parametrize(
    ("reference", "line", "note"),
    [
        ({"images": 273, "loss": {"total": 1.1}}, True, []),  # as many, but for a tenth
        ({"images": 272, "loss": {"total": 1.1}}, None, ["wave: 300 images seen, the reference 272"]),
        ({"images": 272, "loss": {"total": 0.9}}, False, []),  # worse than one that saw fewer is worse
        ({"images": None, "loss": {"total": 1.1}}, None, ["wave: 300 images seen, the reference ?"]),
    ],
)
def test_better_than_a_reference_that_saw_less_is_no_proof(
    reference: dict[str, Any], line: bool | None, note: list[str]
) -> None:
    models = {"wave": figures(), "johnson": figures(reference=True, **reference)}
    met = [found.met for found in quality.requirements(models) if "at most the reference's" in found.what]
    assert met == ([] if line is None else [line])
    assert quality.not_comparable(models) == note


def test_a_requirement_has_two_sides() -> None:
    assert [Requirement("", found, 1.25, 0.8).met for found in (0.7, 0.8, 1.25, 1.3)] == [False, True, True, False]
    assert str(Requirement("border", 0.7, 1.25, 0.8)) == "missed border: 0.7, at least 0.8, at most 1.25"


def test_a_style_between_colons_is_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    conclude(Console(), [Requirement("six:wave: loss", 1.0)], {}, None)
    assert capsys.readouterr().out.startswith("met    six:wave: loss: 1")


def test_temporal(moving: list[np.ndarray], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "wall.mp4", moving)
    temporal.main(["starry_night"], [clip], reference=["starry_night=starry_night"], output=tmp_path / "t.json")
    report = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    wall = report["clips"]["wall"]
    assert (wall["frames"], wall["size"], wall["cuts"]) == (12, "128x96", 0)
    style, reference = wall["models"].values()
    assert style == reference and style.keys() == {"short", "long", "noise"}
    assert all(value > 0 for value in style.values())
    assert [line["found"] for line in report["requirements"]] == [style["short"], 1]


def test_temporal_with_references_of_an_earlier_result(moving: list[np.ndarray], tmp_path: Path) -> None:
    clip, first, second = make_clip(tmp_path / "wall.mp4", moving), tmp_path / "first.json", tmp_path / "second.json"
    temporal.main(["starry_night"], [clip], reference=["starry_night=wave"], output=first)
    temporal.main(["starry_night"], [clip], references_from=first, output=second)
    before, now = (json.loads(path.read_text(encoding="utf-8")) for path in (first, second))
    assert now["references"] == before["references"] == {"starry_night": "wave (reference)"}
    assert [r["what"] for r in now["requirements"]] == [r["what"] for r in before["requirements"]]
    assert now["clips"]["wall"]["models"]["wave (reference)"] == before["clips"]["wall"]["models"]["wave (reference)"]
    temporal.main(["starry_night"], [clip], references_from=first, frames=10, output=second)
    assert json.loads(second.read_text(encoding="utf-8"))["references"] == {}  # those are of 12 frames
    temporal.main(["starry_night"], [clip], reference=["starry_night=udnie"], references_from=first, output=second)
    assert json.loads(second.read_text(encoding="utf-8"))["references"] == {"starry_night": "udnie (reference)"}
    second.write_text("[]")
    with pytest.raises(typer.BadParameter, match=r"second\.json, without references, clips; expected: a result"):
        temporal.main(["starry_night"], [clip], references_from=second)


def test_smoothing_takes_its_share_of_the_noise(moving: list[np.ndarray], tmp_path: Path) -> None:
    clip, first, second = make_clip(tmp_path / "wall.mp4", moving), tmp_path / "first.json", tmp_path / "second.json"
    temporal.main(["starry_night"], [clip], reference=["starry_night=wave"], output=first)
    temporal.main(["starry_night"], [clip], references_from=first, smoothing=0.5, output=second)
    before, now = (json.loads(path.read_text(encoding="utf-8")) for path in (first, second))
    noise = [found["clips"]["wall"]["models"]["starry_night"]["noise"] for found in (before, now)]
    assert 0.3 < noise[1] / noise[0] < 0.7  # half of it, by what amounts mean
    assert (before["smoothing"], now["smoothing"], now["references"]) == (0.0, 0.5, {})


def test_temporal_refuses_a_clip_that_says_nothing(moving: list[np.ndarray], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "short.mp4", moving[:1])
    with pytest.raises(typer.BadParameter, match="1 frames, in which nothing can be followed"):
        temporal.main(["starry_night"], [clip])


def test_temporal_refuses_two_clips_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="two clips of one name"):
        temporal.main(["starry_night"], [tmp_path / "a" / "wall.mp4", tmp_path / "b" / "wall.mkv"])


def test_temporal_of_a_clip_too_fast_for_five_frames(
    moving: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "wall.mp4", moving)
    followed = temporal.motions
    monkeypatch.setattr(temporal, "motions", lambda frames, lag: followed(frames, lag) if lag == 1 else [])
    temporal.main(["starry_night"], [clip], output=tmp_path / "t.json")
    found = json.loads((tmp_path / "t.json").read_text())["clips"]["wall"]["models"]["starry_night"]
    assert found.keys() == {"short", "noise"}


def test_an_error_of_ours_is_three_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["temporal.py", "starry_night", "--clip", str(tmp_path / "no.mp4")])
    with pytest.raises(SystemExit) as stop:
        run_script(temporal.main)
    error = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and error[0].startswith("error: got: ") and error[-1].startswith("do this: ")


def test_wide_clips_are_made_narrower(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "wide.mp4", [texture(90, 1280)] * 2)
    assert [frame.shape for frame in temporal.read_clip(clip, 1)] == [(45, 640, 3)]


def test_held_out_photos(tmp_path: Path, shared: Path) -> None:
    kinds = held_out_kinds()
    found = photos_from(shared / "assets/photos", 3)
    assert [photo.name for photo in found] == list(kinds) and len(kinds) == 12
    assert [found[index].kind for index in one_of_a_kind(found)] == list(dict.fromkeys(kinds.values()))


def test_rows_of_a_sheet_are_one_of_a_kind() -> None:
    frame = np.zeros((4, 6, 3), np.uint8)
    photos = [Photo("1", "text", frame), Photo("2", "text", frame), Photo("3", "street", frame), Photo("4", "", frame)]
    assert one_of_a_kind(photos) == [0, 2, 3]
    assert sheet({"photo": [frame] * 3, "styled": [frame] * 3}).shape == (24 + 3 * 8, 2 * 10, 3)
