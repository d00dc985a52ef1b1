"""Settings, and the pictures that a step sees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from styletrainer.config import config_from_dict, settings_from_toml
from styletrainer.data import Crops, crop_batches, list_photos, read_artwork
from styletrainer.errors import TrainError

Settings = dict[str, object]


def test_every_problem_is_named_at_once(settings: Settings) -> None:
    bad = settings | {"recipe": "gan", "steps": 0, "crop": 70, "ema": 1.5, "colour": "blue"}
    with pytest.raises(TrainError) as caught:
        config_from_dict(bad, "the test")
    for word in ("recipe: got 'gan'", "steps: got 0", "crop: got 70", "ema: got 1.5", "colour: unknown"):
        assert word in str(caught.value)


def test_toml_settings(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("style_weight = 2.5\nstyle_layers = { relu1_2 = 1.0 }\n")
    assert settings_from_toml(tmp_path / "run.toml") == {
        "style_weight": 2.5,
        "style_layers": {"relu1_2": 1.0},
    }
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
    assert not (tmp_path / "r").exists()


def crops(settings: Settings, seed: int = 0) -> Crops:
    photos = list_photos(Path(str(settings["photos"])))
    artwork = read_artwork(Path(settings["artworks"][0]), 96, 64)  # type: ignore[index]
    return Crops(photos, [artwork], 64, seed)


def test_item_depends_on_seed_and_index_alone(settings: Settings) -> None:
    photo, artwork, skipped = crops(settings)[17]
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
    ],
)
def test_settings_of_the_wrong_kind(settings: Settings, change: Settings, words: str) -> None:
    with pytest.raises(TrainError, match=words):
        config_from_dict(settings | change, "the test")


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
    photo, artwork, _ = crops(settings)[0]
    assert photo.shape == (3, 64 + 32, 64 + 32)
    assert artwork.shape == (3, 64, 64)
