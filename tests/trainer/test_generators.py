"""Generators: shapes, folding, and what the articles ask of the U-Net."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from styletrainer.discriminators import PatchGAN
from styletrainer.generators import Johnson, Realtime, UNet, build_generator, with_margin

SMALL_UNET = {"ngf": 8, "n_blocks": 2}


def in_frame_units(folded: nn.Module, rgb: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = folded(rgb.flip(1) * 255).flip(1) / 255
    return out


@pytest.mark.parametrize("size", ["nano", "small", "base"])
def test_folded_realtime_equals_its_branches(size: str) -> None:
    torch.manual_seed(0)
    generator = Realtime(size).eval()  # type: ignore[arg-type]
    with torch.no_grad():  # branches start at zero: fill them, or the test would not see them
        for parameter in generator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        photo = torch.rand(2, 3, 48, 64)
        torch.testing.assert_close(in_frame_units(generator.fold(), photo), generator(photo), rtol=1e-4, atol=1e-5)


def test_realtime_folds_to_plain_convolutions() -> None:
    kinds = {type(m) for m in Realtime("small").fold().modules()} - {Realtime, nn.ModuleList}
    assert kinds == {nn.Conv2d}


def test_realtime_starts_without_a_grid() -> None:
    """At initialisation the last layer is a bilinear interpolation of one coarse picture."""
    torch.manual_seed(0)
    generator = Realtime("nano")
    features = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        out = F.pixel_shuffle(generator.out(features), 4)
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
