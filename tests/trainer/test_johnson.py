"""Recipe johnson: its losses against values worked out apart, falling losses, exact resume, and every refusal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from runs import Settings, assert_same_weights, run, stats
from torch import nn

from styletrainer.config import config_from_dict
from styletrainer.data.crops import read_artwork, tensor_from_rgb
from styletrainer.errors import TrainError
from styletrainer.recipe import Batch, Step
from styletrainer.recipes.johnson import FeedForward

STYLE = {"relu1_2": 1.0, "relu2_2": 0.5}
STEP = Step(0, 0.0, 0, 2)


@pytest.fixture
def johnson(settings: Settings) -> Settings:
    """A tiny network, and layers that the tests' weights have."""
    left_out = ("generator_options", "critic_channels", "critic_strided", "style_octaves")
    kept = {name: value for name, value in settings.items() if name not in left_out}
    options = {"channels": 8, "n_blocks": 1}
    return kept | {"recipe": "johnson", "generator_options": options, "style_layers": STYLE}


def gram_in_float64(features: torch.Tensor) -> np.ndarray:
    flat = features[0].double().flatten(1).numpy()
    return flat @ flat.T / flat.size


def test_defaults_are_johnsons(settings: Settings) -> None:
    config = config_from_dict(
        {name: settings[name] for name in ("artworks", "photos", "run")} | {"recipe": "johnson"}, "it"
    )
    assert (config.generator, config.learning_rate, config.adversarial_weight) == ("johnson", 3e-3, 0)
    assert config.content_layers == {"relu3_3": 1.0} and "relu4_1" in config.style_layers


def test_terms_against_numpy(johnson: Settings) -> None:
    recipe = FeedForward(config_from_dict(johnson | {"content_layers": {"relu3_3": 2.0}}, "it"))
    recipe.generator = nn.AvgPool2d(3, 1, 1)  # a blur: what it gives is known
    photo = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    (turn,) = recipe.turns({"photo": photo}, STEP)
    inner = photo[:, :, 32:-32, 32:-32]
    output = nn.functional.avg_pool2d(photo, 3, 1, 1)[:, :, 32:-32, 32:-32]
    found, wanted = recipe.perceptual(output), recipe.perceptual(inner)
    before = wanted["relu3_3"].double()
    content = 2 * float((found["relu3_3"] - before).square().mean() / before.square().mean())
    artwork = tensor_from_rgb(read_artwork(Path(johnson["artworks"][0]), 96, 64))[None]  # type: ignore[index]
    style = 0.0
    for layer, features in recipe.perceptual(artwork, STYLE).items():
        target, own = gram_in_float64(features), gram_in_float64(found[layer])
        style += STYLE[layer] * np.square(own - target).mean() / np.square(target).mean()
    assert turn.player == "generator"
    assert turn.terms["content"].item() == pytest.approx(content, rel=1e-4)
    assert turn.terms["style"].item() == pytest.approx(style, rel=1e-3)
    down, right = (output.diff(dim=axis).square().mean().item() for axis in (2, 3))
    assert turn.terms["tv"].item() == pytest.approx(down + right, rel=1e-5)
    assert turn.weights == {"content": 1.0, "style": 1.0, "tv": 0.3}


def test_loss_of_a_batch_is_the_mean_of_its_items(johnson: Settings) -> None:
    """So that two processes are one with the doubled batch."""
    recipe = FeedForward(config_from_dict(johnson, "it"))
    photo = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    (both,) = recipe.turns({"photo": photo}, STEP)
    singles = [next(recipe.turns({"photo": one[None]}, STEP)) for one in photo]
    for name, value in both.terms.items():
        mean = (singles[0].terms[name] + singles[1].terms[name]) / 2
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-7)


def test_losses_fall_and_the_sheet_shows_them(johnson: Settings, material: Path) -> None:
    vgg = [str(material / "vgg_full.safetensors")]
    folder = run(johnson, steps=24, tick=6, learning_rate=1e-2, vgg=vgg)
    lines = stats(folder)
    assert lines[-1]["style"] < 0.8 * lines[0]["style"]
    assert {"total", "content", "style", "tv"} <= lines[0].keys() and "critic" not in lines[0]
    assert cv2.imread(str(folder / "samples-000024.png")).shape == (512, 5 * 256, 3)


def test_stopped_and_resumed_ends_with_the_same_weights(
    johnson: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(johnson, run=str(tmp_path / "alone"), steps=8, tick=2)
    whole = FeedForward.batches

    def until_the_fourth(self: FeedForward, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        for number, batch in enumerate(whole(self, first_step, rank, world)):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(FeedForward, "batches", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run(johnson, run=str(tmp_path / "stopped"), steps=8, tick=2)
    monkeypatch.undo()
    stopped = run(johnson, run=str(tmp_path / "stopped"), steps=8, tick=2)
    assert [line["step"] for line in stats(stopped)] == [2, 4, 6, 8]
    assert_same_weights(alone, stopped)


def test_run_starts_with_the_weights_of_another(johnson: Settings, tmp_path: Path) -> None:
    first = run(johnson, steps=3)
    begun = FeedForward(config_from_dict(johnson | {"start": str(first), "run": str(tmp_path / "second")}, "it"))
    fresh = FeedForward(config_from_dict(johnson, "it"))
    photo = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(begun.generator(photo), fresh.generator(photo))


def test_several_artworks_of_one_style_share_their_gram_matrices(johnson: Settings, material: Path) -> None:
    two = [str(material / "artwork.png"), str(material / "photos" / "0.png")]
    recipes = [FeedForward(config_from_dict(johnson | {"artworks": paths}, "it")) for paths in (two, two[:1], two[1:])]
    both, one, other = (recipe.get_buffer("gram_relu2_2") for recipe in recipes)
    torch.testing.assert_close(both, (one + other) / 2)


def test_settings_of_other_recipes_are_refused_together(johnson: Settings) -> None:
    with pytest.raises(TrainError, match=r"adversarial_weight: got 0.1, expected none: .*\n.*style_octaves: got 3"):
        config_from_dict(johnson | {"adversarial_weight": 0.1, "style_octaves": 3}, "it")


def test_deep_layer_that_the_weights_lack_is_named(johnson: Settings) -> None:
    without = {name: value for name, value in johnson.items() if name != "style_layers"}
    with pytest.raises(TrainError, match=r"up to relu3_4; expected: relu4_1"):
        run(without)
