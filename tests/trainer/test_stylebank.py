"""StyleBank: its blocks by hand, its schedule, blending, a style added later, and every refusal."""

from __future__ import annotations

import shutil
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from runs import Settings, assert_same_weights, inverted, many, run, stats
from safetensors.torch import load_file
from torch import Tensor

from styleexport.fp16_from_onnx import fp16_from_onnx
from styleexport.onnx_from_checkpoint import contract_from_generator, generator_from_run, onnx_from_generator
from styleexport.verify import Sample, compare, run_frames, run_torch
from stylesdk import Manifest
from styletrainer import losses
from styletrainer.blending import blended
from styletrainer.config import config_from_dict
from styletrainer.data.crops import CONTEXT, without_context
from styletrainer.errors import TrainError
from styletrainer.generators import StyleBank, build_generator, with_margin
from styletrainer.recipe import Step, Turn
from styletrainer.recipes.stylebank import StyleBankRecipe
from styletrainer.run.checkpoint import WEIGHTS, load_checkpoint, save_checkpoint

STYLES = 3


@pytest.fixture
def bank_settings(settings: Settings) -> Settings:
    """Layers that the test's weights have; what only ``hybrid`` knows stays out."""
    layers = {"content_layers": {"relu2_2": 1.0}, "style_layers": {"relu1_2": 1.0, "relu2_2": 0.5}}
    return settings | layers | {"recipe": "stylebank", "generator_options": {"channels": 4}}


def network(styles: int = STYLES, **options: int) -> StyleBank:
    """In float64, every parameter random: norms start as the identity, or a test would not see them."""
    torch.manual_seed(0)
    generator = StyleBank(styles, **({"channels": 4} | options)).double().eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return generator


def photo(height: int = 16, width: int = 24, count: int = 1) -> Tensor:
    return torch.rand(count, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def layer_by_hand(x: Tensor, weights: dict[str, Tensor], name: str, stride: int = 1) -> Tensor:
    """Reflected edge, convolution as a sum over its taps, normalisation of each channel of each picture, leaky ReLU."""
    number = int(name.rpartition(".")[2])
    kernel = weights[f"{name}.weight"]
    scale, shift = (weights[f"{name.rpartition('.')[0]}.{number + 1}.{what}"] for what in ("weight", "bias"))
    y = conv_by_hand(x, kernel, torch.zeros(len(kernel), dtype=x.dtype), stride)
    mean, variance = y.mean((2, 3), keepdim=True), y.var((2, 3), keepdim=True, unbiased=False)
    y = (y - mean) / (variance + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]
    return torch.maximum(y, 0.2 * y)


def conv_by_hand(x: Tensor, kernel: Tensor, bias: Tensor, stride: int) -> Tensor:
    edge = kernel.shape[-1] // 2
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (edge, edge), (edge, edge)), mode="reflect"))
    height, width = x.shape[2:]
    total = bias[:, None, None].expand(x.shape[0], -1, height, width).clone()
    for dy in range(kernel.shape[-1]):
        for dx in range(kernel.shape[-1]):
            shifted = padded[:, :, dy : dy + height, dx : dx + width]
            total += torch.einsum("oi,nihw->nohw", kernel[:, :, dy, dx], shifted)
    return total[:, :, ::stride, ::stride]


@torch.no_grad()
def test_encoder_bank_and_decoder_by_hand() -> None:
    generator, x = network(), photo()
    weights = generator.state_dict()
    features = layer_by_hand(2 * x - 1, weights, "encoder.0")
    features = layer_by_hand(features, weights, "encoder.3", 2)
    features = layer_by_hand(features, weights, "encoder.6", 2)
    torch.testing.assert_close(generator.encode(x), features)
    styled = layer_by_hand(layer_by_hand(features, weights, "banks.1.0"), weights, "banks.1.3")
    torch.testing.assert_close(generator.banks[1](features), styled)
    painted = styled
    for name in ("decoder.1", "decoder.5"):
        painted = layer_by_hand(painted.repeat_interleave(2, 2).repeat_interleave(2, 3), weights, name)
    painted = conv_by_hand(painted, weights["decoder.8.weight"], weights["decoder.8.bias"], 1)
    torch.testing.assert_close(generator.paint(x, 1), 0.5 + 0.5 * painted)


def test_gradients_of_a_blend() -> None:
    generator = network(2, channels=1, bank_layers=1)
    style = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: generator(x, s), (photo(8, 8).requires_grad_(), style))


@torch.no_grad()
def test_banks_mix_linearly_in_their_features() -> None:
    generator, x = network(), photo(count=2)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    mixed = sum(w * bank(generator.encode(x)) for w, bank in zip(weights, generator.banks, strict=True))
    torch.testing.assert_close(generator(x, weights), generator.decode(mixed))
    for number, one_hot in enumerate(torch.eye(STYLES, dtype=torch.float64)):
        torch.testing.assert_close(generator(x, one_hot), generator.paint(x, number))
        torch.testing.assert_close(generator.single(number)(x), generator.paint(x, number))
    assert not torch.allclose(generator.paint(x, 0), generator.paint(x, 1), atol=1e-2)
    assert not torch.allclose(generator.paint(x, 0), generator.reconstruct(x), atol=1e-2)


def test_a_network_of_several_styles_needs_their_weights() -> None:
    with pytest.raises(AssertionError, match="needs their weights"):
        network()(photo())


@torch.no_grad()
def test_maps_mix_banks_cell_by_cell() -> None:
    generator, x = network(), photo(16, 24, count=2)
    maps = torch.rand(2, STYLES, 16, 24, dtype=torch.float64)
    maps = maps / maps.sum(1, keepdim=True)
    cells = maps.unflatten(2, (4, 4)).unflatten(4, (6, 4)).mean((3, 5))
    features = generator.encode(x)
    banks = torch.stack([bank(features) for bank in generator.banks], 1)
    wanted = torch.einsum("nshw,nschw->nchw", cells, banks)
    torch.testing.assert_close(generator.blend(x, maps), generator.decode(wanted))
    everywhere = torch.eye(STYLES, dtype=torch.float64)[1][None, :, None, None].expand(2, -1, 16, 24)
    torch.testing.assert_close(generator.blend(x, everywhere), generator.paint(x, 1))


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (5, 19), (33, 16)])
def test_any_size(size: tuple[int, int]) -> None:
    assert with_margin(network(1), photo(*size)).shape == (1, 3, *size)


def test_options_of_the_network() -> None:
    with pytest.raises(ValueError, match="0 bank layers; each is at least 1"):
        StyleBank(bank_layers=0)


def moved(settings: Settings, number: int, **changes: object) -> torch.Tensor:
    """How far step ``number``'s player moves the kernels of encoder and decoder, at its own rate."""
    recipe = made(settings, **changes)
    players, before = recipe.players(), [p.detach().clone() for p in recipe.shared.parameters()]
    (turn,) = recipe.turns(next(recipe.batches(0, 0, 1)), Step(number, 0.0, 0, 2))
    (1000 * turn.total()).backward()  # type: ignore[no-untyped-call]
    players[turn.player].optimizer.step()
    after = recipe.shared.parameters()
    return torch.cat([(a.detach() - b).flatten() for a, b in zip(after, before, strict=True) if b.ndim == 4])


def test_branches_step_equally_far_times_lambda(bank_settings: Settings) -> None:
    """Whatever their losses: both are a thousand times as large here."""
    stylising, auto = (moved(bank_settings, number) for number in (1, 2))
    assert auto.norm() == pytest.approx(stylising.norm().item(), rel=0.15)  # Muon's singular values are nearly 1
    halved = moved(bank_settings, 2, autoencoder_factor=0.5)
    torch.testing.assert_close(halved, auto / 2, rtol=1e-4, atol=1e-7)


def made(settings: Settings, **changes: object) -> StyleBankRecipe:
    torch.manual_seed(0)
    return StyleBankRecipe(config_from_dict(settings | changes, "the test"))


def first_turns(recipe: StyleBankRecipe, steps: int) -> list[Turn]:
    batch = next(recipe.batches(0, 0, 1))
    found = [list(recipe.turns(batch, Step(number, 0.0, 0, 2))) for number in range(steps)]
    assert all(len(turns) == 1 for turns in found)
    return [turns[0] for turns in found]


def trained(recipe: StyleBankRecipe, turn: Turn) -> set[str]:
    """Parts of the network that the turn gives gradients."""
    recipe.generator.zero_grad()
    turn.total().backward()  # type: ignore[no-untyped-call]
    names = [name for name, parameter in recipe.generator.named_parameters() if parameter.grad is not None]
    return {".".join(name.split(".")[: 2 if name.startswith("banks") else 1]) for name in names}


def test_schedule_of_two_styles(bank_settings: Settings) -> None:
    """T = 3: styles in turn, over the auto-encoder's steps too."""
    recipe = made(many(bank_settings), stylising_steps=3)
    turns = first_turns(recipe, 8)
    auto, shared = {"encoder", "decoder"}, {"encoder", "decoder"}
    a, b = shared | {"banks.0"}, shared | {"banks.1"}
    assert [trained(recipe, turn) for turn in turns] == [a, b, a, auto, b, a, b, auto]
    assert [turn.player for turn in turns[2:4]] == ["generator", "autoencoder"]


def test_without_the_auto_encoder(bank_settings: Settings) -> None:
    recipe = made(bank_settings, autoencoder_factor=0)
    assert list(recipe.players()) == ["generator"]
    assert [turn.player for turn in first_turns(recipe, 4)] == ["generator"] * 4


def test_losses_by_hand(bank_settings: Settings) -> None:
    recipe = made(bank_settings, style_octaves=2, content_weight=2.0)
    batch = next(recipe.batches(0, 0, 1))
    wide = batch["photo"]
    inner = wide[:, :, CONTEXT:-CONTEXT, CONTEXT:-CONTEXT]
    stylising, _, auto = first_turns(recipe, 3)
    with torch.no_grad():
        output = without_context(recipe.generator.decode(recipe.generator.banks[0](recipe.generator.encode(wide))))
        reconstruction = without_context(recipe.generator.reconstruct(wide))
        artwork = torch.from_numpy(recipe.artworks[0][0].transpose(2, 0, 1).copy())[None] / 255
        layers = {"relu1_2": 1.0, "relu2_2": 0.5}
        style = 0.0
        for _ in range(2):
            ours, theirs = recipe.perceptual(output, layers), recipe.perceptual(artwork, layers)
            style += sum(w * losses.style_loss(ours[x], losses.gram(theirs[x])) for x, w in layers.items())
            output, artwork = F.avg_pool2d(output, 2), F.avg_pool2d(artwork, 2)
        output = without_context(recipe.generator.paint(wide, 0))
        ours, theirs = (recipe.perceptual(x, ["relu2_2"])["relu2_2"] for x in (output, inner))
        content = ((ours - theirs) ** 2).mean((1, 2, 3)) / (theirs**2).mean((1, 2, 3))
    torch.testing.assert_close(stylising.terms["style"], style, rtol=1e-4, atol=0)
    torch.testing.assert_close(stylising.terms["content"], content.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(auto.terms["identity"], ((reconstruction - inner) ** 2).mean(), rtol=1e-5, atol=0)
    terms = stylising.terms
    total = 2 * terms["content"] + 0.7 * terms["style"] + 0.3 * terms["tv"]
    torch.testing.assert_close(stylising.total(), total)


def test_losses_fall(bank_settings: Settings) -> None:
    folder = run(many(bank_settings), steps=40, tick=10, learning_rate=1e-2)
    lines = stats(folder)
    assert lines[-1]["style"] < 0.8 * lines[0]["style"]
    assert lines[-1]["identity"] < 0.8 * lines[0]["identity"]
    assert {"style", "content", "tv", "total", "identity"} <= lines[0].keys()


def test_figures_are_means_over_the_steps_that_have_them(bank_settings: Settings, tmp_path: Path) -> None:
    """Of three steps one has an identity loss, and its mean is that one."""
    each = stats(run(bank_settings, steps=4, tick=1))
    together = stats(run(bank_settings, run=str(tmp_path / "together"), steps=12, tick=3))
    assert "identity" not in each[0] and "identity" in each[2]
    assert together[0]["identity"] == pytest.approx(each[2]["identity"], rel=1e-3)


def test_exact_resume(bank_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped just before the auto-encoder's turn."""
    stopped = 2
    halfway = tmp_path / "halfway"

    def save(folder: Path, state: dict[str, object], averaged: torch.nn.Module) -> None:
        save_checkpoint(folder, state, averaged)
        if state["step"] == stopped:
            shutil.copytree(folder, halfway)

    monkeypatch.setattr("styletrainer.run.loop.save_checkpoint", save)
    whole = run(many(bank_settings), steps=5, tick=1)
    state = load_checkpoint(halfway)
    assert state is not None and state["step"] == stopped
    assert_same_weights(whole, run(many(bank_settings), run=str(halfway), steps=5, tick=1))


def test_a_new_style_leaves_the_others_alone(bank_settings: Settings, tmp_path: Path) -> None:
    before = run(many(bank_settings), steps=6)
    changes = {"styles": ["a", "b", "new"], "new_style_only": True, "start": str(before)}
    after = run(bank_settings, run=str(tmp_path / "grown"), steps=6, **changes)
    old, new = load_file(before / WEIGHTS), load_file(after / WEIGHTS)
    for name, value in old.items():
        assert torch.equal(value, new[name]), name
    added = {name for name in new if name not in old}
    assert added == {name.replace("banks.0.", "banks.2.") for name in old if name.startswith("banks.0.")}
    torch.manual_seed(0)
    begun = build_generator("stylebank", {"channels": 4, "styles": 3}).state_dict()
    assert not torch.equal(new["banks.2.0.weight"], begun["banks.2.0.weight"])  # and it learned
    lines = stats(after)
    assert "identity" not in lines[-1] and np.isfinite(lines[-1]["style"])


def test_a_run_of_one_style_starts_from_one_of_several(bank_settings: Settings, tmp_path: Path) -> None:
    before = run(many(bank_settings) | {"styles": ["x", "artwork"]}, steps=3)
    several, _ = generator_from_run(before)
    one = made(bank_settings, run=str(tmp_path / "one"), start=str(before)).generator
    with torch.no_grad():
        torch.testing.assert_close(one(photo().float()), several.paint(photo().float(), 1))  # type: ignore[operator]


def test_torch_equals_onnx_for_styles_and_their_mixture() -> None:
    generator = network().float()
    fp32 = onnx_from_generator(generator, Manifest("three", ("a", "b", "c"), 4, "fp32", "Apache-2.0"))
    assert [i.name for i in onnx.load_model_from_string(fp32).graph.input] == ["frame", "strength", "style"]
    frame = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    weights = [*np.eye(3, dtype=np.float32), np.array([0.5, 0.3, 0.2], np.float32)]
    samples = [Sample(frame, 1.0, style) for style in weights]
    wanted = [run_torch(contract_from_generator(generator), sample) for sample in samples]
    assert compare(wanted, run_frames(fp32, samples)).max <= 1
    assert compare(wanted, run_frames(fp16_from_onnx(fp32, "it"), samples)).max <= 8
    for one, other in combinations(wanted, 2):
        assert compare([one], [other]).max > 8  # the styles are not the same picture


def test_one_style_takes_no_weights_and_a_frame_of_two_pixels() -> None:
    generator = network(1).float()
    contract = contract_from_generator(generator)
    assert contract.styles == 1
    frame = np.array([[[10, 20, 30], [200, 100, 50]]], np.uint8)
    rgb = torch.from_numpy(frame[:, :, ::-1].transpose(2, 0, 1).copy())[None] / 255
    with torch.no_grad():
        wanted = (with_margin(generator, rgb)[0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()[:, :, ::-1]
    assert np.abs(run_torch(contract, Sample(frame)) - wanted).max() < 0.51


def test_masks_paint_regions(bank_settings: Settings) -> None:
    folder = run(many(bank_settings, "ab"), steps=12, learning_rate=1e-2)
    picture = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    left = np.zeros((30, 41), np.uint8)
    left[:, :20] = 255
    full = np.ones((30, 41))
    found = blended(folder, picture, {"a": left, "b": 255 - left})
    assert found.shape == picture.shape and found.dtype == np.uint8
    generator, _ = generator_from_run(folder)
    x = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None] / 255
    with torch.no_grad():
        alone = with_margin(generator, x, torch.tensor([0.0, 1.0]))[0].clamp(0, 1)
        half = with_margin(generator, x, torch.tensor([0.5, 0.5]))[0].clamp(0, 1)
    for masks, wanted in (({"b": 7 * full}, alone), ({"a": 3 * full, "b": 3 * full}, half)):
        difference = blended(folder, picture, masks).astype(int) - (wanted * 255).round().permute(1, 2, 0).numpy()
        assert np.abs(difference).max() <= 1
    # Instance normalisation sees the whole picture, so a region is only nearly as in a picture of one style.
    apart = np.abs(found.astype(int) - (alone * 255).round().permute(1, 2, 0).numpy())
    assert apart[:, 30:].mean() < apart[:, :10].mean()


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ({"z": np.ones((8, 9))}, "style z; the run has a, b"),
        ({"a": np.ones((9, 8))}, r"mask a of shape \(9, 8\), expected \(8, 9\)"),
        ({"a": -np.ones((8, 9))}, "mask a with values that are not finite or below 0"),
        ({"b": np.full((8, 9), np.nan)}, "mask b with values that are not finite"),
        ({"a": np.eye(8, 9)}, "64 of 72 pixels in no mask"),
        ({}, "72 of 72 pixels in no mask"),
    ],
)
def test_masks_that_do_not_fit(
    bank_settings: Settings, tmp_path: Path, masks: dict[str, np.ndarray], expected: str
) -> None:
    config_from_dict(many(bank_settings), "the test").save(tmp_path / "config.json")
    with pytest.raises(TrainError, match=expected):
        blended(tmp_path, np.zeros((8, 9, 3), np.uint8), masks)


def test_masks_for_a_run_without_banks(settings: Settings, tmp_path: Path) -> None:
    config_from_dict(many(settings), "the test").save(tmp_path / "config.json")
    with pytest.raises(TrainError, match=r"generator realtime and 2 style\(s\); expected: one of several"):
        blended(tmp_path, np.zeros((8, 9, 3), np.uint8), {})


def test_no_layers(bank_settings: Settings) -> None:
    with pytest.raises(TrainError, match=r"style_layers: got \{\}, expected a layer at least"):
        run(bank_settings, style_layers={})


def test_everything_wrong_is_told_at_once(bank_settings: Settings, tmp_path: Path) -> None:
    pictures = inverted(bank_settings, tmp_path / "pictures")
    changes = {"generator": "johnson", "pictures": [pictures], "compile": True, "photos": str(tmp_path / "nowhere")}
    layers = {"style_layers": {"relu5_1": 1.0}, "artworks": [str(tmp_path / "no.png"), str(tmp_path / "none.png")]}
    with pytest.raises(TrainError) as error:
        run(bank_settings, **changes, **layers)
    for part in ("generator johnson", "--pictures", "compile", "no picture below", "no.png", "none.png", "relu5_1"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"stylising_steps": 0}, "stylising_steps is 0, expected at least 1"),
        ({"stylising_steps": 1.5}, "stylising_steps: got 1.5, expected int"),
        ({"autoencoder_factor": -1}, "autoencoder_factor: got -1, expected a number from 0 on"),
        ({"autoencoder_factor": "much"}, "autoencoder_factor: got 'much', expected float"),
        ({"generator_options": {"bank_layers": 0}}, "0 bank layers"),
    ],
)
def test_options_out_of_range(bank_settings: Settings, option: dict[str, object], expected: str) -> None:
    with pytest.raises(TrainError, match=expected):
        config_from_dict(bank_settings | option, "the test")


def test_several_styles_need_a_generator_that_holds_them(settings: Settings) -> None:
    with pytest.raises(TrainError, match=r"got johnson, expected one that holds several styles: realtime.*stylebank"):
        config_from_dict(many(settings) | {"generator": "johnson", "generator_options": {}}, "the test")


def test_batches_go_on_where_they_were(bank_settings: Settings) -> None:
    recipe = made(bank_settings)
    third = list(islice(recipe.batches(0, 0, 1), 3))[2]["photo"]
    assert torch.equal(third, next(recipe.batches(2, 0, 1))["photo"])


def test_stops_when_good_by_its_stylising_steps_alone(bank_settings: Settings) -> None:
    """Windows of three stylising steps, between which the auto-encoder has its own; a rate of nothing gains nothing."""
    still = {"stop_when_good": True, "patience": 3, "learning_rate": 1e-12, "batch": 1, "steps": 1000, "tick": 1000}
    state = load_checkpoint(run(bank_settings, **still))
    assert state is not None
    plateau, end = state["stopping"]["plateau"], state["step"]
    stylising = plateau - plateau // 3  # of three steps the third is the auto-encoder's
    assert stylising % 3 == 0 and end == plateau + max(round(plateau / 4), 1) < 1000
