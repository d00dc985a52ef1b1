"""Generators: shapes, folding, and what the articles ask of the U-Net."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from styletrainer.discriminators import PatchGAN
from styletrainer.generators import Johnson, Realtime, UNet, build_generator, with_margin
from styletrainer.generators.branches import BranchedConv, FoldedConv

SMALL_UNET = {"ngf": 8, "n_blocks": 2}


@torch.no_grad()
def filled(size: str, styles: int = 1) -> Realtime:
    """A generator whose every parameter matters: branches start at zero, or a test would not see them."""
    torch.manual_seed(0)
    generator = Realtime(size, styles).eval()  # type: ignore[arg-type]
    for parameter in generator.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    for name, buffer in generator.named_buffers():
        buffer.add_(0.3 * torch.rand_like(buffer) if name.endswith("variance") else 0.1 * torch.randn_like(buffer))
    return generator


@pytest.mark.parametrize("styles", [1, 3])
@pytest.mark.parametrize("size", ["nano", "small", "base"])
def test_folded_realtime_equals_its_branches(size: str, styles: int) -> None:
    generator, photo = filled(size, styles), torch.rand(2, 3, 48, 64)
    mix = torch.tensor([0.2, 0.5, 0.3]) if styles > 1 else None
    with torch.no_grad():
        folded = generator.fold()(photo.flip(1) * 255, mix).flip(1) / 255
        # Weights are rounded to 11 bits, each by itself.
        torch.testing.assert_close(folded, generator(photo, mix), rtol=0, atol=4e-3)


def test_half_precision_holds_folded_kernels_exactly() -> None:
    for module in filled("small", 2).fold().modules():
        if isinstance(module, nn.Conv2d):
            assert torch.equal(module.weight, module.weight.half().float())


def test_one_style_of_several_alone_is_the_same() -> None:
    generator, photo = filled("small", 3), torch.rand(1, 3, 40, 48)
    with torch.no_grad():
        for index in range(3):
            single = generator.single(index)
            assert single.styles == 1 and single.stem.affine.shape[0] == single.stem.mean.shape[0] == 1
            torch.testing.assert_close(single(photo), generator(photo, torch.eye(3)[index]), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(generator.single(0)(photo), generator.single(1)(photo), atol=1e-2)


def test_styles_start_equal_and_mix_linearly_in_their_parameters() -> None:
    torch.manual_seed(0)
    generator, photo = Realtime("nano", 3).eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(generator(photo, torch.eye(3)[0]), generator(photo, torch.eye(3)[2]))
        generator = filled("nano", 3)
        halfway = generator(photo, torch.tensor([0.5, 0.5, 0.0]))
        for module in generator.modules():
            if isinstance(module, BranchedConv):
                module.affine[2] = module.table()[:2].mean(0)
                if module.normalised:
                    module.mean[2], module.variance[2] = 0, 1
        torch.testing.assert_close(generator(photo, torch.eye(3)[2]), halfway, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_statistics_of_training_are_the_constants_of_inference() -> None:
    """Shown the same photos again and again, the running statistics become theirs: train() equals eval()."""
    generator, photos, style = filled("nano", 2).train(), torch.rand(4, 3, 48, 48), torch.eye(2)[1]
    others = [module.mean[0].clone() for module in generator.trunk]
    for _ in range(200):
        trained = generator(photos, style)
    torch.testing.assert_close(generator.eval()(photos, style), trained, rtol=1e-3, atol=1e-3)
    for module, before in zip(generator.trunk, others, strict=True):
        assert torch.equal(module.mean[0], before)  # the other style's are its own


def test_realtime_folds_to_plain_convolutions() -> None:
    kinds = {type(m) for m in Realtime("small").fold().modules()} - {Realtime, nn.ModuleList}
    assert kinds == {FoldedConv}


@pytest.mark.parametrize("size", ["nano", "small", "base"])
def test_reach_is_how_far_an_output_pixel_sees(size: str) -> None:
    generator = filled(size)
    photo = torch.rand(1, 3, 384, 384, requires_grad=True)
    styled = generator(photo)
    seen = 0
    for place in (192, 199):  # both ends of a cell
        (gradient,) = torch.autograd.grad(styled[0, :, place, place].sum(), photo, retain_graph=True)
        touched = gradient.abs().sum((0, 1)).nonzero()
        seen = max(seen, int((touched - place).abs().max()))
    assert generator.reach - 8 < seen <= generator.reach


def test_realtime_starts_without_a_grid() -> None:
    """At initialisation the last layer is a bilinear interpolation of one coarse picture."""
    torch.manual_seed(0)
    generator = Realtime("nano")
    features = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        out = F.pixel_shuffle(generator.out(features, None), 4)
        coarse = torch.einsum("oc,nchw->nohw", generator.out.kernel().sum((2, 3))[::16], features) + 0.5
        smooth = F.interpolate(coarse, scale_factor=4, mode="bilinear")
    inside = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(out[inside], smooth[inside])
    assert out[inside].std() > 0.01


@pytest.mark.parametrize("name", ["realtime", "johnson", "unet"])
@pytest.mark.parametrize("size", [(64, 64), (61, 83)])
def test_with_margin_keeps_any_size(name: str, size: tuple[int, int]) -> None:
    options = {"realtime": {"size": "nano"}, "johnson": {"channels": 8, "n_blocks": 1}, "unet": SMALL_UNET}
    generator = build_generator(name, options[name]).eval()
    with torch.no_grad():
        assert with_margin(generator, torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_johnson_is_the_reference_network() -> None:
    parameters = sum(p.numel() for p in Johnson().parameters())
    assert parameters == pytest.approx(1.68e6, rel=0.01)


def test_unet_has_skips_by_concatenation_and_three_downs() -> None:
    unet = UNet()
    assert unet.head.in_channels == 2 * 64
    assert [up[0].in_channels for up in unet.ups] == [512, 512, 256]
    assert [down[0].stride for down in unet.downs] == [(2, 2)] * 3
    assert len(unet.middle) == 6


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("padding", ["reflect", "replicate", "zeros"])
def test_unet_options(norm: str, padding: str) -> None:
    unet = UNet(norm=norm, padding=padding, dropout=0.5, **SMALL_UNET)  # type: ignore[arg-type]
    kinds = {type(m) for m in unet.modules()}
    assert (nn.InstanceNorm2d in kinds) == (norm == "instance")
    assert (nn.BatchNorm2d in kinds) == (norm == "batch")
    assert nn.Dropout in kinds
    assert unet.stem[0].padding_mode == padding
    assert unet(torch.rand(2, 3, 32, 32)).shape == (2, 3, 32, 32)


def test_unet_noise_makes_renderings() -> None:
    unet = UNet(noise=True, **SMALL_UNET).eval()
    photo, z = torch.rand(1, 3, 32, 32), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(unet(photo, z), unet(photo, z))
        assert not torch.allclose(unet(photo, z), unet(photo, -z))


def test_patchgan_receptive_field_is_70_pixels() -> None:
    torch.manual_seed(0)
    critic = PatchGAN(8).eval()
    picture = torch.rand(1, 3, 128, 128, requires_grad=True)
    logits = critic(picture)
    middle = logits.shape[2] // 2
    logits[0, 0, middle, middle].backward()
    assert picture.grad is not None
    touched = picture.grad.abs().sum((0, 1)).nonzero()
    height = int(touched[:, 0].max() - touched[:, 0].min()) + 1
    width = int(touched[:, 1].max() - touched[:, 1].min()) + 1
    assert (height, width) == (70, 70)


def test_johnson_trains_on_what_it_computes_at_inference() -> None:
    """Training takes its own way round slow operators: the same values and the same gradients."""
    torch.manual_seed(0)
    network = build_generator("johnson", {"channels": 4, "n_blocks": 1}).double()
    network.requires_grad_(True)
    photo = torch.rand(2, 3, 24, 32, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, 3, 24, 32, dtype=torch.float64)
    results = []
    for training in (True, False):
        out = network.train(training)(photo)
        wanted = [photo, *network.parameters()]
        results.append([out, *torch.autograd.grad((weight * out).sum(), wanted)])
    for ours, pytorchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, pytorchs, rtol=1e-9, atol=1e-10)


def test_what_is_beyond_the_flat_of_tanh_counts_in_training_and_is_black_or_white_afterwards() -> None:
    generator = Johnson(4, 1)
    with torch.no_grad():
        generator.body[-1].weight.zero_()
        generator.body[-1].bias.copy_(torch.tensor([-42.5, 0.5, 12.5]))
    photo = torch.rand(1, 3, 16, 16)
    middle = 0.5 + 0.5 * math.tanh(0.5)
    seen = generator(photo)[0, :, 0, 0]
    # 0.5 + 0.5 * (tanh + 0.1 * what is further than 2.5 from 0)
    assert seen.tolist() == pytest.approx([-2.0, middle, 1.5], abs=1e-5)
    seen[0].backward()
    assert generator.body[-1].bias.grad[0] == pytest.approx(0.05)
    assert generator.eval()(photo)[0, :, 0, 0].tolist() == pytest.approx(
        [0.0, 0.5 + 0.5 * math.tanh(0.5), 1.0], abs=1e-5
    )
