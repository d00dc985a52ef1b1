"""Cross-domain stylizer: AdaIN and the style's distances by hand, codes, style pictures, and training for real."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from runs import Settings, assert_same_weights, run, stats
from safetensors.torch import load_file
from torch import Tensor, nn

from styletrainer.config import config_from_dict, config_from_run
from styletrainer.data.crops import CONTEXT, Crops
from styletrainer.data.style_pictures import Artworks, StylePairs
from styletrainer.data.textures import draw_texture, recolour
from styletrainer.discriminators import MultiScalePatch, least_size
from styletrainer.errors import TrainError
from styletrainer.generators import CrossDomain, build_generator, with_margin
from styletrainer.generators.crossdomain import StyledConv, adain
from styletrainer.generators.resampling import resampling
from styletrainer.generators.residual import Conv
from styletrainer.losses.distances import gram_loss, moment_loss, moments
from styletrainer.run.checkpoint import WEIGHTS, load_weights

TINY = {"code": 16, "width": 8, "deep": 16, "depth": 2, "tail": 1}


@pytest.fixture
def tiny(settings: Settings, material: Path, tmp_path: Path) -> Settings:
    """Settings of a run on two artworks, the one of all tests and a red one with white stripes."""
    red = np.full((200, 220, 3), (30, 30, 200), np.uint8)
    red[::8] = 255
    cv2.imwrite(str(tmp_path / "red.png"), red)
    own = {
        "recipe": "crossdomain",
        "artworks": [str(material / "artwork.png"), str(tmp_path / "red.png")],
        "artwork_size": 128,
        "generator_options": TINY,
        "content_layers": {"relu3_1": 1.0},
        "style_layers": {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0},
    }
    return {name: value for name, value in settings.items() if name != "style_octaves"} | own


def tiny_generator(seed: int = 0, styles: int = 2) -> CrossDomain:
    torch.manual_seed(seed)
    return CrossDomain(**TINY, styles=styles).eval()


def test_adain_gives_every_channel_the_mean_and_deviation_asked_for() -> None:
    random = torch.Generator().manual_seed(0)
    content = 3 + 2 * torch.randn(2, 3, 5, 7, generator=random, dtype=torch.float64)
    mean = torch.randn(2, 3, generator=random, dtype=torch.float64)
    deviation = torch.rand(2, 3, generator=random, dtype=torch.float64)
    x = content.numpy()
    spread = np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    wanted = (x - x.mean((2, 3), keepdims=True)) / spread * deviation.numpy()[..., None, None]
    wanted = wanted + mean.numpy()[..., None, None]
    torch.testing.assert_close(adain(content, mean, deviation), torch.from_numpy(wanted), rtol=1e-12, atol=1e-12)
    small = [content[:1, :2, :3, :3].clone(), mean[:1, :2].clone(), deviation[:1, :2].clone()]
    assert torch.autograd.gradcheck(adain, [x.requires_grad_() for x in small])


def test_moments_are_mean_and_deviation_and_have_their_gradients() -> None:
    features = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    mean, deviation = moments(features)
    np.testing.assert_allclose(mean, features.numpy().mean((2, 3)), rtol=1e-12)
    np.testing.assert_allclose(deviation, np.sqrt(features.numpy().var((2, 3)) + 1e-5), rtol=1e-12)
    flat = torch.ones(1, 1, 3, 3, dtype=torch.float64)  # where a square root alone would have no gradient
    assert torch.autograd.gradcheck(moments, [features.requires_grad_()])
    assert torch.autograd.gradcheck(moments, [flat.requires_grad_()])


def test_moment_loss_by_hand() -> None:
    """Output of mean 1 and deviation 1, style of mean 2 and deviation 3: (1 + 4) / (1 + 1 + 4 + 9)."""
    output = torch.tensor([0.0, 2.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    style = torch.tensor([-1.0, 5.0, -1.0, 5.0], dtype=torch.float64).reshape(1, 1, 2, 2)
    torch.testing.assert_close(moment_loss(output, style).item(), 5 / 15, rtol=1e-4, atol=0)
    assert moment_loss(style, style).item() == 0
    assert moment_loss(torch.zeros_like(style), style).item() == pytest.approx(1, abs=0.01)  # a blank


def test_gram_loss_by_hand() -> None:
    output, style = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 6, 2)
    grams = [np.einsum("nchw,ndhw->ncd", x, x) / x[0].numel() for x in (output.double(), style.double())]
    squares = [(g**2).mean((1, 2)) for g in grams]
    wanted = (((grams[0] - grams[1]) ** 2).mean((1, 2)) / (squares[0] + squares[1])).mean()
    found = gram_loss(output, torch.from_numpy(grams[1]).float()).item()
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("loss", [moment_loss, lambda o, s: gram_loss(o, torch.einsum("nchw,ndhw->ncd", s, s))])
def test_distances_are_means_over_items(loss) -> None:  # type: ignore[no-untyped-def]
    """What two processes with half of a batch each compute is what one computes with all of it."""
    output, style = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8) * torch.tensor([0.1, 3.0]).reshape(2, 1, 1, 1)
    alone = (loss(output[:1], style[:1]) + loss(output[1:], style[1:])) / 2
    torch.testing.assert_close(loss(output, style), alone)


def test_multi_scale_critic_sees_the_picture_and_its_half() -> None:
    torch.manual_seed(0)
    critic, picture = MultiScalePatch(8, 2, scales=2, channels_in=6).eval(), torch.rand(2, 6, 64, 64)
    fine, coarse = critic(picture)
    assert torch.equal(fine, critic.critics[0](picture))
    assert torch.equal(coarse, critic.critics[1](F.avg_pool2d(picture, 2)))
    assert fine.shape[2] > coarse.shape[2]


@torch.no_grad()
def test_content_knows_nothing_of_contrast() -> None:
    generator, photo = tiny_generator(), torch.rand(1, 3, 64, 64)
    content, near = generator.content(photo)
    same, same_near = generator.content(0.5 + 0.5 * (photo - 0.5))
    torch.testing.assert_close(same, content, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(same_near, near, rtol=1e-2, atol=1e-2)
    other, _ = generator.content(torch.rand(1, 3, 64, 64))
    assert (other - content).abs().mean() > 0.1


@torch.no_grad()
def test_no_convolution_of_the_picture_sees_where_it_ends() -> None:
    """Else it puts a spike there, where no loss looks, that sets what normalisation makes of all the rest."""
    generator = tiny_generator()
    parts = (generator.content, generator.transfer, generator.decoder)
    convs = [module for part in parts for module in part.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) >= 8
    for conv in convs:
        if conv.kernel_size != (1, 1):
            flat = torch.rand(conv.in_channels)[:, None, None].expand(1, -1, 24, 32)
            found = Conv.forward(conv, flat)  # type: ignore[arg-type]  # raises for a convolution of another kind
            torch.testing.assert_close(found, found[:, :, :1, :1].expand_as(found))
            assert isinstance(conv, Conv) and conv.padding_mode == "reflect"


@torch.no_grad()
def test_codes_mix_what_they_do_to_a_layer() -> None:
    torch.manual_seed(0)
    layer, x = StyledConv(4, 6, 8), torch.randn(1, 4, 9, 9)
    one, two = torch.randn(2, 8)
    halfway = (layer(x, one) + layer(x, two)) / 2
    torch.testing.assert_close(layer(x, (one + two) / 2), halfway)
    assert (layer(x, one) - layer(x, two)).abs().mean() > 0.1


@torch.no_grad()
def test_every_item_gets_the_style_of_its_own_code() -> None:
    generator, photos, codes = tiny_generator(), torch.rand(2, 3, 32, 40), torch.randn(2, 16)
    together = generator(photos, codes)
    assert together.shape == photos.shape
    for item in range(2):
        alone = generator(photos[item : item + 1], codes[item])
        torch.testing.assert_close(together[item : item + 1], alone, rtol=1e-4, atol=1e-4)
    assert with_margin(generator, torch.rand(1, 3, 33, 47), codes[0]).shape == (1, 3, 33, 47)


@torch.no_grad()
def test_style_encoder_takes_any_size_and_scales_to_that_of_training() -> None:
    generator = tiny_generator()
    coarse = torch.rand(2, 3, 12, 16)
    small, other = (F.interpolate(x[None], (384, 512), mode="bicubic").clamp(0, 1) for x in coarse)
    large = F.interpolate(small, (800, 1066), mode="bicubic").clamp(0, 1)
    encoder = generator.encoder()
    code = encoder(small)
    assert code.shape == (16,)
    assert torch.equal(code, encoder(small))
    torch.testing.assert_close(code, generator.style(small)[0], rtol=1e-5, atol=1e-5)  # 384 is what it was trained on
    torch.testing.assert_close(code.mean().item(), 0.0, rtol=0, atol=1e-5)
    torch.testing.assert_close(code.var(unbiased=False).item(), 1.0, rtol=0, atol=1e-2)
    assert (encoder(large) - code).norm() < 0.2 * (encoder(other) - code).norm()
    assert encoder(torch.rand(1, 3, 64, 70)).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(70, 93), (64, 64), (131, 40), (20, 31)])
def test_a_picture_is_scaled_as_by_antialiased_interpolation(size: tuple[int, int]) -> None:
    picture, step = torch.rand(1, 3, *size), torch.tensor(min(size) / 32)
    wide = tuple(side * 32 // min(size) for side in size)
    rows, columns = (resampling(old, new, step) for old, new in zip(size, wide, strict=True))
    wanted = F.interpolate(picture, wide, mode="bilinear", antialias=True)
    found = rows @ picture @ columns.T
    assert found.shape == wanted.shape
    # A side that does not divide: interpolate takes its own scale, which differs by less than a new pixel.
    exact = all(side * 32 % min(size) == 0 for side in size)
    torch.testing.assert_close(found[..., :16, :16], wanted[..., :16, :16], rtol=0, atol=1e-5 if exact else 0.1)


def test_textures_depend_on_their_random_numbers_alone() -> None:
    pictures = [draw_texture(96, np.random.default_rng(seed)) for seed in range(24)]
    assert all(p.shape == (96, 96, 3) and p.dtype == np.uint8 and p.std() > 1 for p in pictures)
    assert all(np.array_equal(p, draw_texture(96, np.random.default_rng(s))) for s, p in enumerate(pictures))
    assert len({p.tobytes() for p in pictures}) == len(pictures)


def test_recolouring_changes_colours_and_not_what_is_equal() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[4:] = (200, 60, 20)
    other = recolour(picture, np.random.default_rng(0))
    assert (other[:4] == other[0, 0]).all() and (other[4:] == other[4, 0]).all()
    assert np.abs(other.astype(int) - picture).max() > 20


def pairs(tiny: Settings, **shares: float) -> StylePairs:
    photos = sorted(Path(str(tiny["photos"])).iterdir())
    crops = Crops(photos, [[np.zeros((64, 64, 3), np.uint8)]], 64, 2, seed=0)
    artworks = Artworks(tiny["artworks"][1:], 192, 64 + 2 * CONTEXT)  # type: ignore[index]
    return StylePairs(crops, artworks, **({"photos": 0.0, "drawn": 0.0, "recoloured": 0.0} | shares))


def test_a_style_picture_is_of_the_kind_asked_for(tiny: Settings) -> None:
    def red(style: Tensor) -> float:
        return float(style[0].mean() - style[1:].mean())

    found = {share: [pairs(tiny, **{share: 1.0})[i] for i in range(4)] for share in ("photos", "drawn", "recoloured")}
    for photo, style, other, skipped in (pairs(tiny)[i] for i in range(4)):
        assert photo.shape == style.shape == (3, 128, 128) and other.shape == (3, 64, 64) and skipped == 0
        assert red(style) > 0.4 and red(other) > 0.4  # both of the red artwork
    for items in found.values():
        assert sum(red(style) > 0.4 for _, style, _, _ in items) < 4
    for _, style, other, _ in found["recoloured"]:  # and the two crops in the same colours
        assert (style.mean((1, 2)) - other.mean((1, 2))).abs().max() < 0.05


def test_items_depend_on_seed_and_number_alone(tiny: Settings) -> None:
    shares = {"photos": 0.3, "drawn": 0.3, "recoloured": 0.5}
    first, again = pairs(tiny, **shares), pairs(tiny, **shares)
    again[7]
    for left, right in zip(first[3], again[3], strict=True):
        assert torch.equal(torch.as_tensor(left), torch.as_tensor(right))


def test_losses_fall_and_the_table_has_the_codes_of_the_artworks(tiny: Settings) -> None:
    folder = run(tiny, steps=28, tick=7, learning_rate=1e-2)
    lines = stats(folder)
    assert {"critic", "adversarial", "content", "style", "moment", "reconstruction", "code", "tv"} <= lines[0].keys()
    for name in ("style", "moment", "reconstruction"):
        assert lines[-1][name] < 0.8 * lines[0][name], name
    assert cv2.imread(str(folder / "samples-000028.png")).shape == (3 * 256, 5 * 256, 3)
    config = config_from_run(folder)
    assert config.styles == ("artwork", "red")
    generator = build_generator(config.generator, config.all_generator_options()).eval()
    load_weights(generator, folder / WEIGHTS)
    assert isinstance(generator, CrossDomain)
    artworks = Artworks(config.artworks, config.artwork_size, 128)
    with torch.no_grad():
        for style, code in enumerate(generator.codes()):
            whole = artworks.whole(style)[0][None]
            torch.testing.assert_close(code, generator.style(whole)[0])
            # What a user gets who gives the artwork as a picture.
            torch.testing.assert_close(code, generator.encoder()(whole), rtol=1e-4, atol=1e-4)
    assert (generator.codes()[0] - generator.codes()[1]).abs().mean() > 1e-3


def test_resumed_run_ends_with_the_same_weights(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (tiny | {"run": str(tmp_path / name), "steps": 5, "tick": 2, "drawn_styles": 0.5} for name in "ab")
    alone = run(whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("styletrainer.run.loop.write_sheet", interrupt)
        run(cut)
    assert load_file(tmp_path / "b" / WEIGHTS)["named"].abs().sum() > 0  # stopped after the first tick's checkpoint
    assert_same_weights(alone, run(cut))
    assert [line["step"] for line in stats(tmp_path / "b")] == [1, 2, 3, 4, 5]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_folder_of_artworks_is_one_style_and_a_broken_one_is_passed_over(tiny: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "painter"
    folder.mkdir()
    for number, path in enumerate(tiny["artworks"]):  # type: ignore[arg-type, var-annotated]
        (folder / f"{number}.png").write_bytes(Path(str(path)).read_bytes())
    (folder / "0-broken.png").write_bytes(b"no picture")
    cv2.imwrite(str(folder / "small.png"), np.zeros((40, 40, 3), np.uint8))
    changes = {"drawn_styles": 0, "photo_styles": 0, "artworks": [str(folder)], "steps": 4, "tick": 4}
    found = run(tiny, **changes)
    assert stats(found)[-1]["skipped_photos"] > 0
    assert load_file(found / WEIGHTS)["named"].shape == (1, 16)
    assert config_from_run(found).styles == ()


def test_a_run_begins_with_the_weights_of_another_of_other_artworks(tiny: Settings, tmp_path: Path) -> None:
    before = run(tiny)
    other = {"artworks": tiny["artworks"][1:], "run": str(tmp_path / "other"), "start": str(before)}  # type: ignore[index]
    weights = load_file(run(tiny, steps=1, learning_rate=1e-12, **other) / WEIGHTS)
    theirs = load_file(before / WEIGHTS)
    assert weights["named"].shape == (1, 16)
    torch.testing.assert_close(weights["transfer.layers.0.weight"], theirs["transfer.layers.0.weight"])
    with pytest.raises(TrainError, match="not those of this CrossDomain"):
        run(tiny, run=str(tmp_path / "new"), start=str(before), generator_options=TINY | {"depth": 3})


def test_everything_wrong_with_the_data_is_told_at_once(tiny: Settings, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_text("no picture")
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((40, 50, 3), np.uint8))
    wrong = [str(tmp_path / name) for name in ("text.jpg", "empty", "small.png", "broken")]
    with pytest.raises(TrainError) as caught:
        run(tiny, artworks=wrong, photos=str(tmp_path / "nowhere"), pictures=[str(tmp_path)] * 4, critic_scales=4)
    text = str(caught.value)
    told = ("does not read as a picture", "empty", "50x40 pixels", "nowhere", "got: pictures", "none of 1 pictures")
    for part in (*told, "critic_scales 4 with critic_strided 2; expected: fewer"):
        assert part in text


def test_scales_that_a_crop_has_room_for() -> None:
    """What is refused is one more than the critics can judge."""
    critic = MultiScalePatch(8, 2, scales=3, channels_in=6)
    assert critic(torch.rand(1, 6, 64, 64))[-1].shape == (1, 1, 2, 2)
    assert least_size(2 + 2) <= 64 < least_size(2 + 3)
    with pytest.raises(RuntimeError):
        MultiScalePatch(8, 2, scales=4, channels_in=6)(torch.rand(1, 6, 64, 64))


def test_generator_without_codes_is_refused(tiny: Settings) -> None:
    with pytest.raises(TrainError, match=r"generator johnson; expected: crossdomain"):
        run(tiny, artworks=tiny["artworks"][:1], generator="johnson", generator_options={})  # type: ignore[index]
    with pytest.raises(TrainError, match=r"expected one that holds several styles: .*crossdomain"):
        config_from_dict(tiny | {"generator": "johnson", "generator_options": {}}, "the test")


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("drawn_styles", 0.9, "at most 1 together"),
        ("photo_styles", -0.1, "photo_styles: got -0.1, expected a number from 0 on"),
        ("recoloured", 1.5, "recoloured is a share"),
        ("critic_scales", 0, "at least 1"),
        ("style_octaves", 2, "style_octaves: got 2, expected none: crossdomain does not read it"),
        ("nonsense", 1, "unknown setting"),
    ],
)
def test_wrong_options_are_named(tiny: Settings, option: str, value: float, text: str) -> None:
    with pytest.raises(TrainError, match=text):
        config_from_dict(tiny | {option: value}, "the test")
