"""Settings, and the pictures that a step sees."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from styletrainer.config import config_from_dict, config_from_run, settings_from_toml
from styletrainer.data.crops import CONTEXT, Crops, crop_batches, read_artwork
from styletrainer.data.photos import list_photos
from styletrainer.data.pictures import photos_with_pictures
from styletrainer.errors import TrainError

Settings = dict[str, object]


def test_every_problem_is_named_at_once(settings: Settings) -> None:
    bad = settings | {"recipe": "gan", "steps": 0, "crop": 70, "ema": 1.5, "colour": "blue"}
    with pytest.raises(TrainError) as caught:
        config_from_dict(bad, "the test")
    for word in ("recipe: got 'gan'", "steps: got 0", "crop: got 70", "ema: got 1.5", "colour: unknown"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"styles": ["a", "b"]}, "artworks: got 1, expected one for each of 2"),
        ({"styles": ["a", "a"]}, "two or more different names"),
        ({"styles": ["a"]}, "two or more different names"),
        ({"styles": ["a", "b"], "generator": "johnson", "generator_options": {}}, "generator: got johnson"),
        ({"pictures": ["t", "u"]}, "pictures: got 2 folders, expected 1"),
        ({"new_style_only": True}, "new_style_only: expected `styles`"),
        ({"content_weight": 0, "style_weight": 0, "adversarial_weight": 0}, "pictures: got none"),
    ],
)
def test_styles_that_do_not_fit(settings: Settings, changes: Settings, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        config_from_dict(settings | changes, "the test")


def test_all_items_of_a_step_show_its_style(settings: Settings) -> None:
    photos = list_photos(Path(str(settings["photos"])))
    plain = [[np.full((80, 80, 3), value, np.uint8)] for value in (0, 100, 200)]
    items = [Crops(photos, plain, 64, 2, 0)[index] for index in range(8)]
    values = [round(float(artwork.mean()) * 255) for _, artwork, _, _ in items]
    assert values == [0, 0, 100, 100, 200, 200, 0, 0]


def test_toml_settings(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("style_weight = 2.5\nstyle_layers = { relu1_2 = 1.0 }\n")
    assert settings_from_toml(tmp_path / "run.toml") == {
        "style_weight": 2.5,
        "style_layers": {"relu1_2": 1.0},
    }
    (tmp_path / "latin.toml").write_bytes("seed = 1\n# Größe\n".encode("latin-1"))
    with pytest.raises(TrainError, match=r"latin.toml, where line 2 is not UTF-8; expected: TOML in UTF-8"):
        settings_from_toml(tmp_path / "latin.toml")
    (tmp_path / "bad.toml").write_text("style_weight =")
    with pytest.raises(TrainError, match="does not read as TOML"):
        settings_from_toml(tmp_path / "bad.toml")


def test_dry_run_prints_the_resolved_settings(settings: Settings, tmp_path: Path) -> None:
    from styletrainer.cli import app

    line = [*settings["artworks"], "--photos", "p", "-o", str(tmp_path / "r"), "--dry-run"]  # type: ignore[misc]
    result = CliRunner().invoke(app, [*line, "--set", "style_weight=2", "--set", 'adversarial="bce"'])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["style_weight"], found["adversarial"], found["generator"]) == (2, "bce", "realtime")
    (tmp_path / "run.toml").write_text('recipe = "gramcode"\nstyle_weight = 3\n')
    result = CliRunner().invoke(app, [*line, "--config", str(tmp_path / "run.toml"), "--set", "style_weight=2"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["recipe"], found["style_weight"], found["generator"]) == ("gramcode", 2, "gramcode")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("stage", ["teacher", "distill", "finish"])
def test_stages_are_settings_that_can_be_overridden(stage: str, settings: Settings, tmp_path: Path) -> None:
    from styletrainer.cli import STAGES, app

    given = ["a.jpg", "--photos", "p", "-o", str(tmp_path / "r"), "--dry-run", "--stage", stage, "--batch", "7"]
    given += {"distill": ["--pictures", "q"], "finish": ["--start", "s"]}.get(stage, [])
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found == found | settings_from_toml(STAGES / f"{stage}.toml") | {"batch": 7}


def test_nothing_to_finish(tmp_path: Path) -> None:
    from styletrainer.cli import app

    line = ["a.jpg", "--photos", "p", "-o", str(tmp_path / "r"), "--stage", "finish"]
    with pytest.raises(TrainError, match=r"--stage finish without --start(.|\n)*stylesdk import"):
        CliRunner().invoke(app, line, catch_exceptions=False)
    (tmp_path / "run.toml").write_text('start = "s"\n')
    for given in (["--config", str(tmp_path / "run.toml")], ["--set", "start=s"]):
        assert CliRunner().invoke(app, [*line, *given, "--dry-run"], catch_exceptions=False).exit_code == 0


def test_several_styles_and_one_more_on_the_command_line(settings: Settings, tmp_path: Path) -> None:
    from styletrainer.cli import app

    def resolved(*line: str) -> dict[str, object]:
        given = [*line, "--photos", "p", "-o", str(tmp_path / "r"), "--dry-run"]
        result = CliRunner().invoke(app, given, catch_exceptions=False)
        found: dict[str, object] = json.loads(result.output)
        return found

    assert resolved("a.jpg", "b.jpg", "--many")["styles"] == ["a", "b"]
    before = config_from_dict(
        settings | {"styles": ["a", "b"], "artworks": ["a.jpg", "b.jpg"], "generator_options": {"size": "base"}}, "test"
    )
    (tmp_path / "before").mkdir()
    before.save(tmp_path / "before/config.json")
    found = resolved("new.jpg", "--add-to", str(tmp_path / "before"))
    assert (found["styles"], found["new_style_only"]) == (["a", "b", "new"], True)
    assert found["generator_options"] == {"size": "base"}
    # the new style is learned as the others were: crops, size of strokes, losses; unless told otherwise
    assert (found["crop"], found["artwork_size"], found["style_octaves"]) == (64, 96, 2)
    other = resolved("new.jpg", "--add-to", str(tmp_path / "before"), "--set", "artwork_size=200")
    assert (other["artwork_size"], other["crop"]) == (200, 64)
    with pytest.raises(TrainError, match="--add-to alone"):
        resolved("new.jpg", "--add-to", str(tmp_path / "before"), "--size", "nano")
    other = {"styles": ["a", "b"], "artworks": ["a.jpg", "b.jpg"], "recipe": "gramcode", "generator_options": {}}
    config_from_dict(settings | other, "test").save(tmp_path / "before/config.json")
    with pytest.raises(TrainError, match="a run of gramcode; expected: one of hybrid or stylebank"):
        resolved("new.jpg", "--add-to", str(tmp_path / "before"))
    config_from_dict(settings, "test").save(tmp_path / "before/config.json")
    with pytest.raises(TrainError, match="a run of one style"):
        resolved("new.jpg", "--add-to", str(tmp_path / "before"))


def crops(settings: Settings, seed: int = 0) -> Crops:
    photos = list_photos(Path(str(settings["photos"])))
    artwork = read_artwork(Path(settings["artworks"][0]), 96, 64)  # type: ignore[index]
    return Crops(photos, [[artwork]], 64, 2, seed)


def test_item_depends_on_seed_and_index_alone(settings: Settings) -> None:
    photo, artwork, _, skipped = crops(settings)[17]
    again = crops(settings)[17]
    assert torch.equal(photo, again[0]) and torch.equal(artwork, again[1])
    assert not torch.equal(photo, crops(settings)[18][0])
    assert not torch.equal(photo, crops(settings, seed=1)[17][0])
    assert skipped == 0
    assert 0 <= float(photo.min()) <= float(photo.max()) <= 1


def test_two_processes_share_the_global_batch(settings: Settings) -> None:
    """Ranks 0 and 1 with batch 2 see, step by step, what one process with batch 4 sees."""
    data = crops(settings)
    make = lambda batch, rank, world, first: crop_batches(  # noqa: E731
        data, first_step=first, batch=batch, rank=rank, world=world, workers=0
    )
    one, left, right = make(4, 0, 1, 0), make(2, 0, 2, 0), make(2, 1, 2, 0)
    for _ in range(3):
        assert torch.equal(next(one)[0], torch.cat([next(left)[0], next(right)[0]]))
    resumed = make(4, 0, 1, 3)
    assert torch.equal(next(one)[0], next(resumed)[0])


def test_artwork_is_scaled_to_its_short_side(settings: Settings) -> None:
    artwork = read_artwork(Path(settings["artworks"][0]), 130, 64)  # type: ignore[index]
    assert artwork.shape == (130, 150, 3)
    assert artwork.dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generator_options": {"size": "big"}}, "generator_options: realtime does not take"),
        ({"generator": "unet", "generator_options": {"size": "small"}}, "unet does not take"),
        ({"learning_rate": "abc"}, "learning_rate: got 'abc', expected float"),
        ({"steps": True}, "steps: got True"),
        ({"style_layers": ["relu1_2"]}, "style_layers: got"),
        ({"style_layers": {"relu1_2": "x"}}, "layer names with numbers"),
        ({"artworks": []}, "at least one picture"),
        ({"style_weight": float("nan")}, "style_weight: got nan, expected a number from 0 on"),
        ({"learning_rate": -1.0}, "learning_rate: got -1.0, expected a number from 0 on"),
        ({"minutes": float("inf")}, "minutes: got inf"),
        ({"critic_strided": 5}, "critic_strided: got 5, too many for crops of 64 pixels"),
        ({"recipe": "cyclegan", "look": "bold"}, "look: got 'bold', expected none: cyclegan does not read it"),
        ({"recipe": "unit", "style_weight": 2}, "style_weight: got 2, expected none: unit does not read it"),
        ({"recipe": "unit", "style_layers": {"relu1_2": 1.0}}, "expected none: unit does not read it"),
        ({"seed": 2**63}, r"seed: got 9223372036854775808, expected less than 2\^63"),
        ({"styles": ["a,b", "c"], "artworks": ["x", "y"]}, r"styles: got 'a,b', expected names without , = : / \\ "),
        ({"generator_options": {"styles": 2}}, "generator_options: got styles, expected none"),
        ({"content_layers": {}}, "content_layers: got {}, expected a layer at least"),
        ({"style_layers": {"relu1_2": 0.0}}, "style_layers: .* not all 0"),
        ({"style_layers": {"relu1_2": float("nan")}}, "style_layers: .* weights from 0 on"),
        ({"style_octaves": 6}, "style_octaves: got 6, too many for crops of 64 pixels"),
        ({"style_octaves": 4, "style_layers": {"relu5_1": 1.0}}, "style_octaves: got 4, too many for crops of 64"),
        ({"recipe": ["a"]}, r"recipe: got \('a',\), expected str"),
        ({"recipe_options": "x"}, "recipe_options: got 'x', expected dict"),
        ({"artworks": [1]}, r"artworks: got \[1\], expected texts alone"),
        ({"recipe": "crossdomain", "generator": "crossdomain", "moment_weight": "abc"}, "moment_weight: got 'abc'"),
        ({"recipe": "crossdomain", "generator": "crossdomain", "code_weight": -3}, "code_weight: got -3, expected a n"),
        ({"recipe": "crossdomain", "generator": "crossdomain", "critic_scales": 1.5}, "critic_scales: got 1.5, exp"),
        ({"recipe": "gramcode", "grid_weight": 2}, "grid_weight: got 2, expected none: gramcode does not read it"),
    ],
)
def test_settings_of_the_wrong_kind(settings: Settings, change: Settings, words: str) -> None:
    with pytest.raises(TrainError, match=words):
        config_from_dict(settings | change, "the test")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b'{"steps": 1', "Expecting"), (b"[1]", "no table of settings"), (b'{"run": "\xff"}', "utf-8")],
)
def test_damaged_settings_of_a_run(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(TrainError, match=rf"config.json, which does not read as settings \(.*{words}(.|\n)*Do this"):
        config_from_run(tmp_path)


def test_no_network_names_the_local_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    from styletrainer.perceptual import load_weight_sets

    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.delenv("STYLESDK_VGG", raising=False)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(TrainError, match=r"no route to host(.|\n)*--vgg"):
        load_weight_sets()


def test_photo_has_context_around_the_crop(settings: Settings) -> None:
    photo, artwork, picture, _ = crops(settings)[0]
    assert photo.shape == (3, 64 + 2 * CONTEXT, 64 + 2 * CONTEXT)
    assert artwork.shape == (3, 64, 64)
    assert picture.shape == (0, 128, 128)


def test_far_context_mirrors_the_photo_where_it_ends(settings: Settings) -> None:
    near, far = crops(settings), crops(settings)
    far.context = 80
    for index in range(4):
        photo = far[index][0]
        assert photo.shape == (3, 224, 224)
        assert photo.std() > 0.5 * near[index][0].std(), "no edge repeated, no black"


def test_picture_is_of_the_same_place_as_its_photo(settings: Settings) -> None:
    """The negatives of the photos as pictures: every pair of crops adds up to white."""
    photos = list_photos(Path(str(settings["photos"])))
    folder = Path(str(settings["run"]))
    folder.mkdir()
    for path in photos:
        cv2.imwrite(str(folder / f"{path.stem}.png"), 255 - cv2.imread(str(path)))
    kept, pictures = photos_with_pictures(photos, Path(str(settings["photos"])), [folder])
    assert kept == photos
    items = Crops(photos, crops(settings).artworks, 64, 2, 0, pictures)
    for index in range(6):
        photo, _, picture, _ = items[index]
        assert photo.shape == picture.shape == (3, 128, 128)
        assert float((photo + picture - 1).abs().max()) < 0.01
