"""The Gram-code stylizer: every block against values from elsewhere, export."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from styleexport.companions import companions_from_generator
from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.fp16_from_onnx import fp16_from_onnx
from styleexport.onnx_from_checkpoint import contract_from_generator, onnx_from_generator
from styleexport.verify import Sample, compare, run_frames, run_torch
from stylesdk.manifest import Manifest
from styletrainer.generators import GramCode, with_margin
from styletrainer.generators.gramcode_decoder import UNITS, DoubledConv, Modulation, RandomLayer, _doubled, _Modulated
from styletrainer.generators.gramcode_encoder import Encoder, UnitConv, edge_map, luma, texture_map
from styletrainer.generators.gramcode_style import StyleLayer, correlations, strongest

TINY = {"channels": 4, "top": 3, "level_code": 5}
CODE = 15


def tiny(styles: int = 1) -> GramCode:
    torch.manual_seed(0)
    generator = GramCode(**TINY, styles=styles).eval()
    for style in range(styles):
        generator.remember(style, torch.randn(CODE))
    return generator


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


# --- the maps beside the colours


def test_edge_of_a_ramp_is_its_slope_and_of_a_step_its_half() -> None:
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")
    slope = edge_map((0.03 * x + 0.04 * y)[None, None].double())
    torch.testing.assert_close(slope[:, :, 1:-1, 1:-1], torch.full((1, 1, 5, 7), 0.05).double(), atol=1e-6, rtol=0)
    step = edge_map((x >= 4)[None, None].double())[0, 0, 3]
    torch.testing.assert_close(step, torch.tensor([0, 0, 0, 0.5, 0.5, 0, 0, 0, 0]).double(), atol=1e-4, rtol=0)


def test_edge_map_is_scipys_sobel_to_the_border() -> None:
    picture = torch.rand(11, 13, dtype=torch.float64)
    gradients = [ndimage.sobel(picture.numpy(), axis, mode="nearest") / 8 for axis in (0, 1)]
    expected = torch.from_numpy(np.hypot(*gradients))
    torch.testing.assert_close(edge_map(picture[None, None])[0, 0], expected, atol=1e-6, rtol=0)


def test_texture_map_is_the_variance_of_nine_pixels() -> None:
    picture = np.random.default_rng(0).random((6, 7))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(picture, 1, mode="edge"), (3, 3))
    found = texture_map(torch.from_numpy(picture)[None, None])[0, 0]
    np.testing.assert_allclose(found.numpy(), windows.var(axis=(2, 3)), atol=1e-12)


def test_texture_of_a_bright_wall_survives_half_precision() -> None:
    wall = 0.9 + 0.01 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = texture_map(wall.half().double())
    error = (texture_map(wall.half()).double() - expected).abs().mean()
    assert error < 0.02 * expected.mean()


def test_luma_of_the_primaries() -> None:
    primaries = torch.eye(3)[:, :, None, None]
    torch.testing.assert_close(luma(primaries).flatten(), torch.tensor([0.299, 0.587, 0.114]))


def test_encoder_levels_and_descriptor() -> None:
    encoder = Encoder((4, 8, 16), 6).double()
    levels = encoder(torch.rand(2, 3, 32, 48, dtype=torch.float64))
    assert [tuple(level.shape) for level in levels] == [(2, 4, 16, 24), (2, 8, 8, 12), (2, 16, 4, 6)]
    means = torch.cat([level.flatten(2).mean(2) for level in levels], 1)
    expected = means @ encoder.pooled.weight.T + encoder.pooled.bias
    torch.testing.assert_close(encoder.describe(levels), expected)


@torch.no_grad()
def test_no_training_makes_the_features_larger_layer_by_layer() -> None:
    """What half precision must hold: kernels a thousand times as long, as thousands of steps of Muon make them."""
    torch.manual_seed(0)
    encoder = Encoder((4, 8, 16), 6).double()
    picture = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    before = encoder(picture)
    for module in encoder.modules():
        if isinstance(module, UnitConv):
            module.weight.mul_(1000)
            norms = module.kernels().flatten(1).norm(dim=1)
            torch.testing.assert_close(norms, torch.full_like(norms, module.gain))
    folded = encoder.fold().double()
    assert not any(isinstance(module, UnitConv) for module in folded.modules())
    for was, now, plain in zip(before, encoder(picture), folded(picture), strict=True):
        torch.testing.assert_close(now, was)
        torch.testing.assert_close(plain, was, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_features_do_not_see_where_a_picture_ends() -> None:
    flat = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)[:, None, None].expand(1, 3, 64, 48)
    levels = Encoder((4, 8, 16), 6).double()(flat)
    for level in levels:
        torch.testing.assert_close(level, level[:, :, :1, :1].expand_as(level))
    assert max(float(level.max()) for level in levels) > 0.01


# --- the style layer


def test_correlations_are_means_of_products() -> None:
    features = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    expected = torch.einsum("nahw,nbhw->nab", features, features) / 35
    torch.testing.assert_close(correlations(features), expected)
    torch.testing.assert_close(correlations(features.repeat(1, 1, 2, 3)), expected)
    assert correlations(features.bfloat16()).dtype == torch.float32


def test_strongest_channels_by_hand() -> None:
    gram = torch.tensor([[5.0, 1, 2, 4], [1, 1, 0, 1], [2, 0, 3, 1], [4, 1, 1, 6]])
    # Norms of the rows: sqrt 46, sqrt 3, sqrt 14, sqrt 54.
    assert strongest(gram[None], 2).tolist() == [[[5, 4], [4, 6]]]
    assert strongest(gram[None], 3).tolist() == [[[5, 2, 4], [2, 3, 1], [4, 1, 6]]]
    assert torch.equal(strongest(gram[None], 4), gram[None])


def test_strongest_chooses_for_every_picture_by_itself() -> None:
    grams = torch.stack([torch.diag(torch.tensor(d)) for d in ([9.0, 1, 1, 8], [1.0, 7, 6, 1])])
    assert strongest(grams, 2).diagonal(dim1=1, dim2=2).tolist() == [[9, 8], [7, 6]]


def test_one_linear_layer_codes_all_levels() -> None:
    layer = StyleLayer((4, 8), top=3, length=5, columns=2).double()
    features = torch.rand(2, 4, 6, 6, dtype=torch.float64)
    # A level with four channels more that are silent: the same three are the strongest.
    code = layer.code([features, torch.cat([torch.zeros_like(features), features], 1)])
    torch.testing.assert_close(code[:, :5], code[:, 5:])
    chosen = strongest(correlations(features), 3).flatten(1)
    expected = chosen @ layer.shared.weight.T + layer.shared.bias
    expected = (expected - expected.mean(1, keepdim=True)) / (expected.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(code[:, :5], expected)


def test_every_channel_has_its_row_of_the_style_matrix() -> None:
    layer = StyleLayer((4, 8), top=3, length=5, columns=2).double()
    code = torch.rand(2, 10, dtype=torch.float64)
    for number, (part, rows) in enumerate(zip(layer.matrix(code), layer.rows, strict=True)):
        expected = torch.einsum("cmd,nd->ncm", rows, code[:, 5 * number : 5 * number + 5])
        torch.testing.assert_close(part, expected)


def test_style_layer_gradients() -> None:
    torch.manual_seed(0)
    layer = StyleLayer((3, 4), top=2, length=3, columns=2).double()
    levels = [torch.rand(2, c, 3, 2, dtype=torch.float64, requires_grad=True) for c in (3, 4)]

    def matrix(*levels: Tensor) -> Tensor:
        return torch.cat(layer.matrix(layer.code(list(levels))), 1)

    assert torch.autograd.gradcheck(matrix, levels)


# --- the decoder


def test_modulation_is_an_lstm_that_takes_a_style_vector_in_at_every_level() -> None:
    torch.manual_seed(0)
    widths, hidden = (6, 4), 7
    modulation = Modulation(widths, columns=2, descriptor=5, hidden=hidden).double()
    matrix = [torch.randn(3, width, 2, dtype=torch.float64) for width in widths]
    descriptor = torch.randn(3, 5, dtype=torch.float64)
    reference = nn.LSTM(5, hidden).double()
    for name, value in modulation.cell.state_dict().items():
        getattr(reference, f"{name}_l0").data.copy_(value)
    state = torch.zeros(3, 2 * hidden, dtype=torch.float64)
    expected = []
    for level in range(2):
        enter = modulation.enter[level]
        state = state + matrix[level].reshape(3, -1) @ enter.weight.T + enter.bias
        begin = (state[None, :, :hidden].contiguous(), state[None, :, hidden:].contiguous())
        outputs, (last, memory) = reference(descriptor.expand(UNITS, 3, 5), begin)
        state = torch.cat([last[0], memory[0]], 1)
        for unit in range(UNITS):
            tell = modulation.tell[UNITS * level + unit]
            expected.append(outputs[unit] @ tell.weight.T + tell.bias)
    found = modulation(matrix, descriptor)
    assert [scale.shape[1] for scale, _ in found] == [6, 6, 6, 4, 4, 4]
    for change, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.cat(change, 1), wanted)


def test_modulated_convolution_has_the_mean_and_deviation_it_is_told() -> None:
    unit = _Modulated(3, 4).double()
    x = torch.rand(2, 3, 8, 9, dtype=torch.float64)
    scale, shift = torch.randn(2, 4).double(), torch.randn(2, 4).double()
    y = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), unit.conv.weight)
    mean, variance = y.mean((2, 3), keepdim=True), y.var((2, 3), keepdim=True, correction=0)
    expected = (y - mean) / (variance + 1e-5).sqrt() * (1 + scale)[:, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(unit(x, (scale, shift)), expected.clamp(min=0))


def test_noise_covers_the_picture_from_its_top_left() -> None:
    tile = torch.rand(2, 3, 16, 16)
    for height, width in ((5, 7), (16, 32), (35, 17)):
        covered = RandomLayer.cover(tile, torch.empty(2, 1, height, width))
        rows, columns = torch.arange(height) % 16, torch.arange(width) % 16
        assert torch.equal(covered, tile[:, :, rows][:, :, :, columns])


def test_shuffled_doubling_is_nearest_neighbour() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(_doubled(x), F.interpolate(x, scale_factor=2.0, mode="nearest"))


def test_doubled_convolution_is_one_on_the_doubled_picture() -> None:
    conv = DoubledConv(3, 2).double()
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    expected = F.conv2d(_doubled(x), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(x), expected)
    torch.testing.assert_close(conv.fold().double()(x).detach(), expected.detach(), rtol=0, atol=1e-6)


# --- the generator


@pytest.mark.parametrize("size", [(17, 33), (241, 319), (8, 100), (64, 64)])
def test_any_size_in_the_same_size_out(size: tuple[int, int]) -> None:
    out = with_margin(tiny(2), smooth(*size), torch.randn(CODE))
    assert out.shape == (1, 3, *size)
    assert out.min() >= 0 and out.max() <= 1


def test_inference_has_one_noise_and_training_many() -> None:
    generator, photo = tiny(), smooth(48, 64)
    with torch.no_grad():
        once = generator(photo)
        torch.manual_seed(5)
        assert torch.equal(once, generator(photo))
        assert torch.equal(once, generator(photo, generator.codes()[0], generator.noise))
        assert not torch.allclose(once, generator(photo, None, torch.randn(1, 64)), atol=1e-3)


def test_a_code_a_picture_equals_each_by_itself() -> None:
    generator, photos, codes = tiny(2), torch.cat([smooth(32, 40), smooth(32, 40, 1)]), torch.randn(2, CODE)
    with torch.no_grad():
        each = [generator(photo[None], code) for photo, code in zip(photos, codes, strict=True)]
        torch.testing.assert_close(generator(photos, codes), torch.cat(each), rtol=0, atol=1e-5)
    assert not torch.allclose(generator(photos[:1], codes[0]), generator(photos[:1], codes[1]), atol=1e-3)


def test_folded_generator_is_the_same_in_frame_units() -> None:
    generator, photo = tiny(2), smooth(40, 48)
    folded = generator.fold()
    assert (folded.styles, folded.code, folded.stride, folded.margin) == (2, CODE, 8, 32)
    with torch.no_grad():
        for code in generator.codes():
            found = folded(photo.flip(1) * 255, code).flip(1) / 255
            torch.testing.assert_close(found, generator(photo, code), rtol=0, atol=1e-5)


def test_single_keeps_the_code_of_one_style() -> None:
    generator, photo = tiny(3), smooth(32, 32)
    single = generator.single(1)
    assert single.styles == 1 and generator.styles == 3
    assert torch.equal(single(photo), generator(photo, generator.codes()[1]))


# --- export


def manifest_of(generator: GramCode, *styles: str) -> Manifest:
    codes = tuple(tuple(row) for row in generator.codes().tolist())
    return Manifest("g", styles, 8, "fp32", "Apache-2.0", codes=codes)


@pytest.fixture(scope="module")
def fp32() -> bytes:
    """``tiny(2)`` in the frame contract."""
    generator = tiny(2)
    return onnx_from_generator(generator, manifest_of(generator, "a", "b"))


def test_onnx_paints_what_torch_paints_at_any_size_and_in_any_code(fp32: bytes) -> None:
    assert not {"Loop", "Scan", "If", "LSTM", "RandomNormal"} & {
        node.op_type for node in onnx.load(BytesIO(fp32)).graph.node
    }
    contract = contract_from_generator(tiny(2))
    frames = [
        (255 * smooth(*size)[0]).byte().permute(1, 2, 0).contiguous().numpy()
        for size in ((16, 40), (141, 119), (72, 264))
    ]
    codes = torch.randn(3, CODE, generator=torch.Generator().manual_seed(1)).numpy()
    samples = [Sample(frame, 1.0, code) for frame, code in zip(frames, codes, strict=True)]
    wanted = [run_torch(contract, sample) for sample in samples]
    assert compare(wanted, run_frames(fp32, samples)).max <= 1
    assert compare(wanted, run_frames(fp16_from_onnx(fp32, "g"), samples)).max <= 3


@pytest.mark.parametrize("sizes", [((48, 64),) * 3, ((48, 64), (64, 96), (96, 128))])
def test_builds_as_an_fp16_plan_of_one_size_and_of_many(
    fp32: bytes, tmp_path: Path, sizes: tuple[tuple[int, int], ...]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    path, plan = tmp_path / "g.fp16.onnx", tmp_path / "g.plan"
    path.write_bytes(fp16_from_onnx(fp32, "g"))
    low, best, high = sizes
    engine_from_onnx(path, plan, min_size=low, opt_size=best, max_size=high, flavour="tensorrt_rtx")
    assert plan.stat().st_size > 10_000


def test_onnx_style_encoder_reads_the_code_that_torch_reads() -> None:
    generator = tiny()
    # Verified inside, at the tolerance of every encoder; of what TopK chose there is then no doubt.
    pictures = [(255 * smooth(*s)[0]).byte().permute(1, 2, 0).contiguous().numpy() for s in ((16, 40), (141, 119))]
    data, difference = companions_from_generator(generator, manifest_of(generator, "a"), pictures)["encoder"]
    assert "TopK" in {node.op_type for node in onnx.load(BytesIO(data)).graph.node}
    assert difference.relative < 1e-4
