"""The mixed-centroid paired GAN: its losses and scores by hand, its generator as ONNX, and its training."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from graphs import save_onnx
from pair_files import make_pairs
from runs import Settings, assert_same_weights, run, stats
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from styletrainer import perceptual
from styletrainer.cli import app
from styletrainer.config import config_from_dict, config_from_run
from styletrainer.data.crops import rgb_from_tensor
from styletrainer.discriminators import PatchGAN
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator
from styletrainer.generators.paired import Paired
from styletrainer.losses import gram
from styletrainer.losses import paired as losses_paired
from styletrainer.pairs.fused_codes import FusedCodes, fused_codes
from styletrainer.pairs.similarity import feature_similarity, ssim
from styletrainer.perceptual import NETWORKS, VGG, Perceptual, blank_weights, load_weight_sets
from styletrainer.recipe import Step
from styletrainer.recipes import paired as paired_recipe
from styletrainer.recipes.paired import Paired as Recipe
from styletrainer.run.checkpoint import WEIGHTS


def exact(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ---- losses and scores


def test_pixel_loss_by_hand_and_its_gradient() -> None:
    output, target, similarity = exact(2, 3, 4, 5), exact(2, 3, 4, 5, seed=1), torch.tensor([1.0, 0.25]).double()
    each = [((o - t) ** 2).sum() / (t**2).sum() for o, t in zip(output, target, strict=True)]
    found = losses_paired.pixel_loss(output, target, similarity)
    torch.testing.assert_close(found, (each[0] + each[1] / 4) / 2)
    assert losses_paired.pixel_loss(output, target, torch.zeros(2).double()) == 0
    torch.autograd.gradcheck(losses_paired.pixel_loss, (output.requires_grad_(), target, similarity))


def test_small_object_loss_counts_pixels_by_their_importance() -> None:
    target, importance = exact(1, 3, 4, 4, seed=2), torch.ones(1, 1, 4, 4).double()
    importance[..., 0, 0] = 9
    there, elsewhere = target.clone(), target.clone()
    there[..., 0, 0] += 1
    elsewhere[..., 3, 3] += 1
    loss = losses_paired.important_loss
    torch.testing.assert_close(loss(there, target, importance), 9 * loss(elsewhere, target, importance))
    by_hand = 3 * 9 / (importance.mean() * 48) / target.square().mean()
    torch.testing.assert_close(loss(there, target, importance), by_hand)
    torch.autograd.gradcheck(loss, (exact(1, 3, 4, 4).requires_grad_(), target, importance))


def test_gram_loss_is_a_mean_over_pairs_of_their_own() -> None:
    output, target = exact(2, 4, 6, 6).float(), exact(2, 4, 6, 6, seed=1).float()
    each = []
    for o, t in zip(output.split(1), target.split(1), strict=True):
        each.append((gram(o) - gram(t)).square().mean() / gram(t).square().mean())
    torch.testing.assert_close(losses_paired.gram_loss(output, target), sum(each) / 2)


def test_mrf_loss_by_brute_force_and_its_gradient() -> None:
    output, style = exact(2, 2, 7, 5), exact(2, 2, 7, 7, seed=1)

    def patches(x: Tensor) -> list[Tensor]:
        places = itertools.product(range(0, x.shape[1] - 2, 2), range(0, x.shape[2] - 2, 2))
        return [x[:, i : i + 3, j : j + 3].flatten() for i, j in places]

    each = []
    for o, s in zip(output, style, strict=True):
        candidates = patches(s)
        chosen = [max(candidates, key=lambda c: float(p @ c / (p.norm() * c.norm()))) for p in patches(o)]
        squares = sum(((p - c) ** 2).sum() for p, c in zip(patches(o), chosen, strict=True))
        each.append(squares / sum((c**2).sum() for c in chosen))
    torch.testing.assert_close(losses_paired.mrf_loss(output, style), (each[0] + each[1]) / 2)
    assert losses_paired.mrf_loss(style, style) < 1e-20
    torch.autograd.gradcheck(losses_paired.mrf_loss, (output.requires_grad_(), style))


def test_of_a_large_pair_the_middle_is_judged(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (900, 400, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "scan.png"), picture)
    found = paired_recipe._centre(tmp_path / "scan.png")
    assert np.array_equal(rgb_from_tensor(found), picture[194:706, :, ::-1])


def test_similarity_of_features_and_ssim() -> None:
    x, y = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    x[0, :, 0, 0], y[0, :, 0, 0] = torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0])  # the same direction: 1
    x[0, :, 0, 1], y[0, :, 0, 1] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0])  # orthogonal: 0
    assert feature_similarity({"l": x}, {"l": y}) == pytest.approx(0.5)
    assert feature_similarity({"l": x, "m": x}, {"l": y, "m": x}) == pytest.approx(0.75)
    picture = exact(3, 32, 40).float()
    assert ssim(picture, picture) == 1
    noisy = (picture + 0.1 * torch.randn(3, 32, 40)).clamp(0, 1)
    assert 0 < ssim(1 - picture, picture) + 1 < 1 and 0.5 < ssim(noisy, picture) < 0.999


# ---- VGG-16


def he_weights(network: str, layer: str) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(value.shape, generator=random) * (2 / value[0].numel()) ** 0.5 * (value.ndim == 4)
        for key, value in blank_weights(network, layer).items()
    }


def test_vgg16_follows_torchvisions_order(tmp_path: Path) -> None:
    """Thirteen convolutions at torchvision's places; relu4_1 is behind the third one of block 3, not the fourth."""
    weights = he_weights("vgg16", "relu5_3")
    places = [int(key.split(".")[1]) for key in weights if key.endswith("weight")]
    assert places == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    picture, vgg = torch.rand(1, 3, 32, 32), VGG(weights, NETWORKS["vgg16"].blocks)
    found = vgg(picture, ["relu3_3", "relu4_1"])
    pooled = torch.nn.functional.max_pool2d(found["relu3_3"], 2)
    expected = torch.nn.functional.conv2d(pooled, weights["features.17.weight"], padding=1).relu()
    torch.testing.assert_close(found["relu4_1"], expected)
    save_file(weights, tmp_path / "vgg16.safetensors")
    sets = load_weight_sets([tmp_path / "vgg16.safetensors"], "vgg16")
    assert Perceptual(["relu4_3"], sets, "vgg16")(picture)["relu4_3"].shape == (1, 512, 4, 4)
    with pytest.raises(TrainError, match=r"holds VGG-16; expected: VGG-19 weights, for --vgg\."):
        load_weight_sets([tmp_path / "vgg16.safetensors"])
    with pytest.raises(TrainError, match=r"relu3_4.*\n.*--vgg16 a deeper VGG-16 file"):
        Perceptual(["relu3_4"], sets, "vgg16")


# ---- the generator


def tiny() -> Paired:
    torch.manual_seed(0)
    generator = Paired(channels=4, n_blocks=2, code=6, styles=3, classes=2, network="vgg16")
    generator.get_buffer("table").copy_(2 * torch.randn(3, 6))
    return generator.eval()


def test_modulation_is_adaptive_instance_normalisation() -> None:
    """The first half of a block by hand: deviation and mean of every channel are what the code says."""
    block = tiny().middle[0]
    x, code = torch.randn(2, 16, 9, 11), torch.randn(2, 6)
    scale, shift = block.scale_shift[0](code).chunk(2, 1)
    y = block.convs[0](x)
    y = (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    y = (y * (1 + scale[:, :, None, None]) + shift[:, :, None, None]).relu()
    scale, shift = block.scale_shift[1](code).chunk(2, 1)
    y = block.convs[1](y)
    y = (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = x + y * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    torch.testing.assert_close(block(x, code), expected, rtol=1e-4, atol=1e-4)


def test_one_code_for_all_or_one_a_picture() -> None:
    generator, photos = tiny(), torch.rand(2, 3, 32, 24)
    codes = generator.codes()
    with torch.no_grad():
        both = generator(photos, codes[:2])
        torch.testing.assert_close(both[1:], generator(photos[1:], codes[1]))
        torch.testing.assert_close(generator(photos, codes[0])[:1], both[:1])
        assert (generator(photos, codes[1]) - generator(photos, codes[0])).abs().mean() > 0.01
    assert both.shape == photos.shape and both.min() >= 0 and both.max() <= 1


def test_folded_generator_is_the_same_in_onnx_for_every_size(tmp_path: Path) -> None:
    generator = tiny()
    folded = generator.fold()
    assert folded.stride == 4 and generator.code == 6
    inputs = {"frame": torch.rand(1, 3, 64, 48), "style": torch.zeros(6)}
    save_onnx(folded, inputs, tmp_path / "g.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"])
    for size, code in (((32, 64), generator.codes()[0]), ((100, 84), generator.codes().mean(0))):
        frame = 255 * torch.rand(1, 3, *size)
        with torch.no_grad():
            ours = folded(frame, code)
            rgb = generator(frame.flip(1) / 255, code).flip(1) * 255
        theirs = session.run(None, {"frame": frame.numpy(), "style": code.numpy()})[0]
        assert np.abs(theirs - ours.numpy()).max() < 1
        torch.testing.assert_close(ours, rgb, atol=1e-3, rtol=0)


def test_critic_sees_the_photo_too() -> None:
    torch.manual_seed(0)
    critic, source, picture = PatchGAN(8, 2, channels_in=6).eval(), torch.rand(1, 3, 48, 48), torch.rand(1, 3, 48, 48)
    logits = critic(torch.cat([source, picture], 1))
    assert not torch.allclose(logits, critic(torch.cat([1 - source, picture], 1)))
    assert not torch.allclose(logits, critic(torch.cat([source, 1 - picture], 1)))


# ---- training


@pytest.fixture
def paired(settings: Settings, material: Path, tmp_path: Path) -> Settings:
    """Settings of a run of a few seconds; without relu4_1, which the random VGG-19 lacks."""
    unused = ("artworks", "photos", "generator_options", "style_octaves", "artwork_size")
    return {key: value for key, value in settings.items() if key not in unused} | {
        "recipe": "paired",
        "pairs": str(make_pairs(tmp_path / "data")),
        "generator_options": {"channels": 6, "n_blocks": 1, "code": 8},
        "descriptor": "vgg19",
        "vgg": [str(material / "vgg_full.safetensors")],
        "components": 3,
        "classes": 2,
        "test_share": 0.25,
        "mrf_layers": ["relu3_1"],
    }


def test_losses_fall_and_the_scores_of_kept_pairs_are_told(paired: Settings) -> None:
    folder = run(paired, steps=40, tick=10, learning_rate=2e-2, ema=0.9)
    lines = stats(folder)
    for name in ("target", "feature", "small_object", "style", "mrf"):
        assert lines[-1][name] < 0.9 * lines[0][name], name
    assert {"critic", "adversarial"} <= lines[0].keys()
    assert lines[0]["similarity"] < lines[-1]["similarity"] < 1
    assert -1 < lines[-1]["ssim"] < 1
    config = config_from_run(folder)
    assert config.styles == ("blue", "red") and config.generator_options["network"] == "vgg19"
    generator = build_generator(config.generator, config.all_generator_options())
    generator.load_state_dict(load_file(folder / WEIGHTS))
    # What it learned from is red or blue; so is what it paints.
    with torch.no_grad():
        blue, red = (generator(torch.rand(1, 3, 64, 64), code).mean((0, 2, 3)) for code in generator.codes())
    assert blue[2] - blue[0] > red[2] - red[0]
    assert torch.equal(generator.descriptor.vgg.convs["w1_1"], load_file(paired["vgg"][0])["features.0.weight"])  # type: ignore[index]


def test_stopped_run_ends_with_the_same_weights(paired: Settings, tmp_path: Path) -> None:
    whole = run(paired, run=str(tmp_path / "whole"), steps=6, tick=2)
    import styletrainer.run.loop as loop

    first = loop._set_rates

    def stop_at_4(training: object, done: float) -> float:
        if training.step == 4:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return first(training, done)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_set_rates", stop_at_4)
        with pytest.raises(KeyboardInterrupt):
            run(paired, run=str(tmp_path / "cut"), steps=6, tick=2)

    def another_fit(*given: Any, **options: Any) -> FusedCodes:
        found = fused_codes(*given, **options)
        return dataclasses.replace(found, of_pairs=2 * found.of_pairs, of_styles=-found.of_styles)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("styletrainer.recipes.paired.fused_codes", another_fit)
        assert_same_weights(whole, run(paired, run=str(tmp_path / "cut"), steps=6, tick=2))


def test_greedy_fusion_and_losses_that_are_off(paired: Settings) -> None:
    off = {f"{name}_weight": 0 for name in ("feature", "small_object", "mrf", "style", "adversarial")}
    last = stats(run(paired, fusion="greedy", test_share=0, steps=2, tick=2, **off))[-1]
    assert {"feature", "small_object", "mrf", "style", "adversarial", "critic", "ssim"}.isdisjoint(last)
    assert np.isfinite(last["target"])


def test_codes_of_training_lie_between_the_pairs_and_the_styles(paired: Settings) -> None:
    recipe = Recipe(config_from_dict(paired, "the test"))
    pairs = torch.arange(4)
    step = Step(number=3, done=0, seed=0, batch=4)
    found, again = recipe._codes(pairs, step), recipe._codes(pairs, step)
    own = recipe.judging.get_buffer("pair_code")[pairs]
    style = recipe.generator.codes()[[recipe.styles.index(pair.style) for pair in recipe.pairs[:4]]]
    share = ((found - style) * (own - style)).sum(1) / (own - style).square().sum(1)
    torch.testing.assert_close(found, style + share[:, None] * (own - style), rtol=1e-4, atol=1e-4)
    assert ((share >= 0) & (share <= 1)).all() and share.std() > 0.05
    assert torch.equal(found, again)
    assert not torch.equal(found, recipe._codes(pairs, Step(number=4, done=0, seed=0, batch=4)))
    # Each process' items have the numbers that they have in the whole batch.
    second = Step(number=3, done=0, seed=0, batch=2, rank=1, world=2)
    torch.testing.assert_close(recipe._codes(pairs[2:], second), found[2:])
    table = recipe.generator.codes()
    assert torch.cdist(table, table)[0, 1] > 1, "styles are told apart by more than their pairs differ"


def test_every_turn_leaves_the_other_player_alone(paired: Settings) -> None:
    recipe = Recipe(config_from_dict(paired, "the test"))
    batch = next(recipe.batches(0, 0, 1))
    players = recipe.players()
    for turn in recipe.turns(batch, Step(0, 0, 0, 2)):
        for player in players.values():
            player.optimizer.zero_grad()
        turn.total().backward()
        for name, player in players.items():
            parameters = [p for group in player.optimizer.param_groups for p in group["params"]]
            learned = any(p.grad is not None and p.grad.abs().max() > 0 for p in parameters)
            assert learned == (name == turn.player), (name, turn.player)


def test_two_halves_of_a_batch_have_the_mean_gradient_of_the_whole(paired: Settings) -> None:
    recipe = Recipe(config_from_dict(paired | {"batch": 4}, "the test"))
    recipe.critic.eval()  # its estimate of the spectral norm stays as it is
    batch = next(recipe.batches(0, 0, 1))
    parameters = [p for p in recipe.parameters() if p.requires_grad]

    def gradients(part: dict[str, Tensor], step: Step) -> list[Tensor]:
        total = sum(turn.total() for turn in recipe.turns(part, step))
        assert isinstance(total, Tensor)
        return list(torch.autograd.grad(total, parameters))

    whole = gradients(batch, Step(0, 0, 0, 4))
    halves = [
        gradients({k: v[2 * rank :][:2] for k, v in batch.items()}, Step(0, 0, 0, 2, rank=rank, world=2))
        for rank in range(2)
    ]
    for expected, *parts in zip(whole, *halves, strict=True):
        # float32 rounds the two ways differently, and every processor its own way.
        torch.testing.assert_close(sum(parts) / 2, expected, rtol=1e-3, atol=5e-5)


def test_command_line_takes_pairs(paired: Settings) -> None:
    line = ["--recipe", "paired", "--pairs", str(paired["pairs"]), "-o", "r", "--vgg16", "w.pth", "--dry-run"]
    done = CliRunner().invoke(app, [*line, "--set", "descriptor=vgg19"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["pairs"] == paired["pairs"] and found["vgg16"] == ["w.pth"] and found["artworks"] == []
    assert found["generator"] == "paired" and found["recipe_options"] == {"descriptor": "vgg19"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pairs": ""}, r"pairs: got none, expected a CSV of pairs \(--pairs\)"),
        ({"artworks": ["a.png"]}, r"artworks: got .*expected none: paired does not read it"),
        ({"recipe": "hybrid"}, r"artworks: got none[\s\S]*photos: got none[\s\S]*pairs: got .*hybrid does not read"),
        ({"start": "run", "pictures": ["p"]}, r"start: got 'run', expected none: paired .*\n.*pictures: got \('p',\)"),
        ({"tv_weight": 2, "look": "bold"}, r"look: got 'bold', expected none: .*\n.*tv_weight: got 2, expected none"),
        ({"descriptor": "resnet"}, "expected descriptor vgg16 or vgg19, fusion em or greedy"),
        ({"components": 0}, "expected components 1-64"),
        ({"components": 2.5}, "components: got 2.5, expected int"),
        ({"mrf_weight": -1}, "mrf_weight: got -1, expected a number from 0 on"),
        ({"mrf_layers": "relu3_1"}, "mrf_layers: got 'relu3_1', expected tuple"),
        ({"generator_options": {"code": 257}}, "code 257 is not in 1 to 256"),
    ],
)
def test_settings_that_do_not_fit(paired: Settings, changes: Settings, expected: str) -> None:
    if changes.get("recipe") == "hybrid":
        own = ("descriptor", "components", "classes", "test_share", "mrf_layers")
        paired = {key: value for key, value in paired.items() if key not in own} | {"generator": "realtime"}
        paired["generator_options"] = {"size": "nano"}
    with pytest.raises(TrainError, match=expected):
        config_from_dict(paired | changes, "the test")


def test_other_generator_and_other_names_of_styles_are_refused(paired: Settings) -> None:
    with pytest.raises(TrainError, match="got: generator johnson; expected: paired"):
        run(paired, generator="johnson", generator_options={})
    with pytest.raises(TrainError, match=r"got: classes among generator_options(.|\n)*--set classes=NUMBER"):
        run(paired, generator_options={"classes": 4})
    with pytest.raises(TrainError, match="got: styles wave, udnie; expected: blue, red"):
        run(paired, styles=["wave", "udnie"])


def test_one_style_and_another_run_of_other_pairs(paired: Settings, tmp_path: Path) -> None:
    folder = run(paired, pairs=str(make_pairs(tmp_path / "one", styles=["red"])), steps=2)
    assert json.loads((folder / "config.json").read_text())["styles"] == []
    with pytest.raises(TrainError, match=r"styles: \(\) in the run, \('blue', 'red'\) now"):
        run(paired, steps=4)


def test_bad_pairs_are_told_before_anything_is_made(paired: Settings) -> None:
    Path(str(paired["pairs"])).write_text("source,target\n")
    with pytest.raises(TrainError, match="style, similarity"):
        run(paired)
    assert not Path(str(paired["run"])).exists()


def test_no_vgg16_names_both_networks(paired: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.delenv("STYLESDK_VGG16", raising=False)
    monkeypatch.setattr(perceptual.torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(TrainError, match=r"downloading VGG-16[\s\S]*--vgg16 or STYLESDK_VGG16[\s\S]*descriptor=vgg19"):
        run(paired, descriptor="vgg16")
