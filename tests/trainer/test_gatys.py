"""Painting by optimisation: colours, regions, the search, and what the loss curve promises."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
import torch

from styletrainer import losses
from styletrainer.errors import TrainError
from styletrainer.optimize.gatys import Painting, Settings, Source, chosen_layers, paint, scales
from styletrainer.optimize.pixel_search import PixelSearch
from styletrainer.optimize.style_targets import Artwork, guided, objective
from styletrainer.perceptual import NAMES, Perceptual, Weights, _feature_index

CPU = torch.device("cpu")
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def thin_weights(convs: int = 13, channels: int = 8) -> Weights:
    """VGG-19 to its ``convs``-th convolution, thin, random (He et al. 2015)."""
    random = torch.Generator().manual_seed(0)
    weights, before = {}, 3
    for name in NAMES[:convs]:
        key = f"features.{_feature_index(name)}"
        weights[f"{key}.weight"] = (2 / (before * 9)) ** 0.5 * torch.randn(channels, before, 3, 3, generator=random)
        weights[f"{key}.bias"] = torch.zeros(channels)
        before = channels
    return weights


def texture(height: int, width: int, seed: int, cell: int = 6) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // cell, width // cell, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def painted(photo: np.ndarray, *sources: Source, **settings: object) -> list[Painting]:
    return list(paint([thin_weights()], photo, sources, Settings(**settings), CPU))  # type: ignore[arg-type]


PHOTO, ARTWORK = texture(60, 90, 1), texture(80, 64, 2, 3)


def random_picture(height: int, width: int, seed: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_guided_gram_matrix_is_that_of_the_regions_pixels() -> None:
    features = torch.rand(1, 4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 12, 16, dtype=torch.float64)
    mask[:, :, 4:10, 2:8] = 1  # 2-4 and 1-3 of the layer, half the size
    region = features[0, :, 2:5, 1:4].reshape(4, 9).numpy()
    np.testing.assert_allclose(losses.gram(guided(features, mask))[0], region @ region.T / (4 * 9), rtol=1e-6)
    assert guided(features, None) is features


def test_guidance_at_an_edge_counts_by_area_and_has_the_right_gradient() -> None:
    mask = torch.tensor([[[[1.0, 0.0, 1.0, 1.0]]]], dtype=torch.float64).expand(1, 1, 2, 4)
    features = torch.rand(1, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    small = np.array([0.5, 1.0]) / math.sqrt((0.25 + 1) / 2)
    np.testing.assert_allclose(guided(features, mask).detach()[0, :, 0], features.detach()[0, :, 0].numpy() * small)
    assert torch.autograd.gradcheck(lambda x: guided(x, mask), features)


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    return Perceptual(["relu1_1", "relu2_1"], [thin_weights(4)])


LAYERS = {"relu1_1": 1.0, "relu2_1": 0.5}


def test_photo_has_its_content_artwork_its_style_and_the_range_is_free(perceptual: Perceptual) -> None:
    photo, artwork = random_picture(16, 24, 0).float(), random_picture(24, 16, 1).float()
    goal = objective(perceptual, photo, [Artwork(artwork)], {"relu2_1": 1.0}, LAYERS)
    terms = goal.terms(photo)
    assert terms["content"] == 0 and terms["style"] > 0 and terms["range"] == 0
    assert terms["tv"] == losses.total_variation(photo)
    assert goal.terms(artwork.mT)["style"] > 0
    same = objective(perceptual, artwork, [Artwork(artwork)], {"relu2_1": 1.0}, LAYERS)
    assert same.terms(artwork)["style"].item() == pytest.approx(0, abs=1e-10)
    outside = photo.clone()
    outside[0, 0, 0, 0], outside[0, 1, 2, 3] = 1.5, -2.0
    assert goal.terms(outside)["range"].item() == pytest.approx((0.25 + 4) / photo.numel(), rel=1e-6)


def test_several_artworks_mix_their_gram_matrices_by_weight(perceptual: Perceptual) -> None:
    photo, one, two = (random_picture(16, 16, seed).float() for seed in range(3))
    (region,) = objective(perceptual, photo, [Artwork(one, 3.0), Artwork(two, 1.0)], LAYERS, LAYERS).regions
    for layer in LAYERS:
        grams = [losses.gram(perceptual(x)[layer]).double() for x in (one, two)]
        torch.testing.assert_close(region.grams[layer].double(), 0.75 * grams[0] + 0.25 * grams[1])


def test_regions_count_by_area_and_weight_and_see_their_part_alone(perceptual: Perceptual) -> None:
    photo, artwork = random_picture(16, 16, 0).float(), random_picture(16, 16, 1).float()
    left = torch.zeros(1, 1, 16, 16)
    left[..., :4] = 1
    of_left, of_right = Artwork(artwork, 1.0, left), Artwork(artwork, 3.0, 1 - left, part=left)
    goal = objective(perceptual, photo, [of_left, of_right], LAYERS, {"relu1_1": 1.0})
    assert [region.share for region in goal.regions] == pytest.approx([0.5 * 0.25, 1.5 * 0.75])
    strip = perceptual(artwork)["relu1_1"][..., :4]
    torch.testing.assert_close(goal.regions[1].grams["relu1_1"], losses.gram(strip))
    picture = torch.cat([photo[..., :8], artwork[..., 8:]], 3).requires_grad_()
    goal.regions[1].place.zero_()[..., :4] = 1  # type: ignore[union-attr]
    goal.terms(picture)["style"].backward()
    assert picture.grad is not None and picture.grad[..., :5].abs().min() > 0
    assert picture.grad[..., 5:].abs().max() == 0, "a pixel that no mask names follows the photo alone"


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_search_finds_the_minimum_and_keeps_the_best(optimizer: str) -> None:
    goal = random_picture(4, 5, 0)
    scale = torch.linspace(1, 30, 60, dtype=torch.float64).view_as(goal)
    values = []

    def loss(picture: torch.Tensor) -> torch.Tensor:
        value = (scale * (picture - goal).square()).sum()
        values.append(value.item())
        return value

    search = PixelSearch(torch.zeros_like(goal), loss, optimizer=optimizer)  # type: ignore[arg-type]
    for _ in range(20):
        search.run(10)
    assert search.lowest == min(values) == loss(search.best).item()
    torch.testing.assert_close(search.best, goal, atol=1e-6 if optimizer == "lbfgs" else 1e-3, rtol=0)
    assert len(values) <= 20 * 11 + 25


def test_best_is_not_the_last_where_the_search_swings() -> None:
    """Adam's steps of 0.02 swing about the kink of |x|."""
    search = PixelSearch(torch.full((1, 1, 1, 1), 0.05), lambda x: x.abs().sum(), optimizer="adam")
    search.run(50)
    assert abs(search.best.item()) == pytest.approx(search.lowest) and search.lowest < 0.01


@pytest.mark.parametrize(("optimizer", "bf16"), [("lbfgs", False), ("lbfgs", True), ("adam", False)])
def test_loss_never_rises_within_a_scale(optimizer: str, bf16: bool) -> None:
    found = painted(PHOTO, Source(ARTWORK), size=256, steps=24, tick=4, optimizer=optimizer, bf16=bf16)
    assert {one.scale for one in found} == {0, 1}
    for before, after in itertools.pairwise(found):
        assert after.step > before.step
        assert after.scale > before.scale or after.loss < before.loss
    coarse = [one.loss for one in found if one.scale == 0]
    assert coarse[-1] < 0.7 * coarse[0]
    last = found[-1]
    assert last.step <= last.steps == 48
    assert last.picture.shape == (3, 171, 256) and last.picture.min() >= 0 and last.picture.max() <= 1
    weights = {"content": 1.0, "style": Settings().style_weight, "tv": Settings().tv_weight, "range": 100.0}
    assert last.loss == pytest.approx(sum(weights[name] * value for name, value in last.terms.items()), rel=1e-5)


def test_scale_that_cannot_get_better_is_done_early() -> None:
    """Nothing but its own style is asked of the photo, which has it."""
    found = painted(PHOTO, Source(PHOTO), size=90, steps=200, content_weight=0.0, tv_weight=0.0)
    assert [(one.step, one.loss) for one in found] == [(10, pytest.approx(0, abs=1e-9))]


def test_noise_depends_on_the_seed_alone() -> None:
    first, same, other = (
        painted(PHOTO, Source(ARTWORK), size=90, steps=4, start="noise", seed=seed)[-1] for seed in (1, 1, 2)
    )
    assert torch.equal(first.picture, same.picture)
    assert not torch.allclose(first.picture, other.picture, atol=0.05)


def test_luma_paints_no_colour() -> None:
    photo = (PHOTO // 2 + 64).astype(np.uint8)  # far from black and white, where clamping changes colours
    found = painted(photo, Source(ARTWORK), size=90, steps=60, color="luma", style_weight=100.0, tv_weight=0.0)[
        -1
    ].picture
    before = torch.from_numpy(photo.transpose(2, 0, 1)).double() / 255
    inside = ((found > 0) & (found < 1)).all(0).numpy()
    assert inside.mean() > 0.8 and (found - before).abs().mean() > 0.01
    chroma = [np.tensordot(YIQ[1:], picture.numpy(), 1)[:, inside] for picture in (found.double(), before)]
    np.testing.assert_allclose(*chroma, atol=1e-4)


def test_match_takes_strokes_and_leaves_colours() -> None:
    """A red artwork paints a blue photo red, unless its colours are matched first."""
    blue, red = PHOTO.copy(), ARTWORK.copy()
    blue[..., 0] //= 4
    red[..., 2] //= 4
    same = {"size": 90, "steps": 150, "content_weight": 0.01, "style_layers": {"relu1_1": 1.0}}
    taken, matched = (painted(blue, Source(red), color=kind, **same)[-1].picture for kind in ("artwork", "match"))
    redness = [float((picture[0] - picture[2]).mean()) for picture in (taken, matched)]
    assert redness[0] > 0.1 > -0.1 > redness[1]


def test_masks_put_each_artwork_in_its_place() -> None:
    red, blue = ARTWORK.copy(), ARTWORK.copy()
    red[..., 1:] //= 4
    blue[..., :2] //= 4
    left = np.zeros((60, 90), np.uint8)
    left[:, :45] = 255
    sources = Source(red, place=left), Source(blue, place=255 - left)
    found = painted(PHOTO, *sources, size=90, steps=150, content_weight=0.01, style_layers={"relu1_1": 1.0})[-1].picture
    redness = found[0] - found[2]
    assert redness[:, :40].mean() > 0.15 and redness[:, 50:].mean() < -0.15


def test_scales_are_halves_with_room_for_the_network() -> None:
    photo = np.zeros((200, 300, 3), np.uint8)
    assert scales(photo, 384) == [192, 384]
    assert scales(photo, 1024) == [128, 256, 512, 1024]
    assert scales(photo, 200) == [200]
    assert scales(photo[:40], 1000) == [250, 500, 1000]  # a panorama: 33 pixels high
    with pytest.raises(TrainError, match=r"size 384 for a photo of 300x20.*\n.*--size 480 or more"):
        scales(photo[:20], 384)


@pytest.mark.parametrize(
    ("convs", "content", "style"),
    [
        (16, "relu4_2", ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]),
        (10, "relu4_2", ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]),
        (8, "relu3_3", ["relu1_1", "relu2_1", "relu3_1"]),
        (2, "relu1_2", ["relu1_1"]),
    ],
)
def test_default_layers_go_as_far_as_the_weights(convs: int, content: str, style: list[str]) -> None:
    assert chosen_layers([thin_weights(convs, 2)], Settings()) == ({content: 1.0}, dict.fromkeys(style, 1.0))


def test_slim_weights_serve_the_deep_layers() -> None:
    layers = chosen_layers([thin_weights(8, 2), {"proj1_1.weight": torch.zeros(1)}], Settings())
    assert layers == ({"relu3_3": 1.0}, dict.fromkeys(["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"], 1.0))


def test_layer_that_the_weights_do_not_have_is_named() -> None:
    with pytest.raises(TrainError, match=r"up to relu5_1; expected: relu5_4"):
        painted(PHOTO, Source(ARTWORK), style_layers={"relu1_1": 1.0, "relu5_4": 1.0})


def test_everything_wrong_with_the_settings_is_told_at_once() -> None:
    with pytest.raises(TrainError) as error:
        painted(PHOTO, Source(ARTWORK), size=3, steps=0, tv_weight=math.nan, content_weight=0.0, style_weight=0.0)
    said = str(error.value)
    assert "4 problem(s)" in said
    assert all(name in said for name in ("size: got 3", "steps: got 0", "tv_weight: got nan", "one of them above 0"))


def test_black_mask_and_broken_weights_are_errors() -> None:
    with pytest.raises(TrainError, match="black all over"):
        painted(PHOTO, Source(ARTWORK, place=np.zeros((60, 90), np.uint8)), size=90)
    broken = thin_weights()
    broken["features.0.bias"].fill_(math.nan)
    with pytest.raises(TrainError, match="not finite"):
        list(paint([broken], PHOTO, [Source(ARTWORK)], Settings(size=90, steps=20), CPU))
