"""Perceptual networks: VGG-16 and VGG-19 by layer name, and VGG-19's slim stand-in for the deep layers.

Layer names are ``reluB_N``, block B and convolution N (Simonyan & Zisserman 2014). Input is RGB float
(N, 3, H, W), 0-1; the ImageNet statistics are applied inside.

Weights come from safetensors files (``--vgg``, or the environment variable STYLESDK_VGG, several paths
joined by the system's path separator; for VGG-16 ``--vgg16`` and STYLESDK_VGG16), or, when none is given, from
PyTorch's own URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from styletrainer.errors import TrainError

ENVIRONMENT = "STYLESDK_VGG"
BLOCKS = (2, 2, 4, 4, 4)  # VGG-19's convolutions per block
BLOCKS_16 = (2, 2, 3, 3, 3)
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Network:
    """Which VGG: its blocks, and where its weights come from."""

    name: str
    blocks: tuple[int, ...]
    option: str
    environment: str
    url: str  # the eight hexadecimal digits are the start of the file's SHA-256, which torch.hub checks


_URL = "https://download.pytorch.org/models/"
NETWORKS = {
    "vgg16": Network("VGG-16", BLOCKS_16, "--vgg16", "STYLESDK_VGG16", _URL + "vgg16-397923af.pth"),
    "vgg19": Network("VGG-19", BLOCKS, "--vgg", ENVIRONMENT, _URL + "vgg19-dcbb9e9d.pth"),
}


def _names(blocks: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{b}_{n}" for b, count in enumerate(blocks, 1) for n in range(1, count + 1))


NAMES = _names(BLOCKS)


def _feature_index(name: str, blocks: Sequence[int] = BLOCKS) -> int:
    """Index of convolution ``B_N`` in torchvision's ``vgg19().features``, or of the VGG with these blocks."""
    block, number = map(int, name.split("_"))
    return sum(2 * count + 1 for count in blocks[: block - 1]) + 2 * (number - 1)


def blank_weights(network: str, layer: str) -> Weights:
    """Zeros in the shapes of ``network`` ("vgg16", "vgg19") up to ``layer``: a place for weights that come later."""
    blocks, weights, channels = NETWORKS[network].blocks, Weights(), 3
    names = _names(blocks)
    for name in names[: names.index(layer.removeprefix("relu")) + 1]:
        key, width = f"features.{_feature_index(name, blocks)}", min(32 * 2 ** int(name[0]), 512)
        weights |= {f"{key}.weight": torch.zeros(width, channels, 3, 3), f"{key}.bias": torch.zeros(width)}
        channels = width
    return weights


class VGG(nn.Module):
    """VGG-19, or the VGG of other ``blocks``, up to the deepest convolution that ``weights`` hold, frozen."""

    def __init__(self, weights: Weights, blocks: Sequence[int] = BLOCKS) -> None:
        super().__init__()
        self.convs = nn.ParameterDict()
        for name in _names(blocks):
            key = f"features.{_feature_index(name, blocks)}"
            if f"{key}.weight" not in weights:
                break
            self.convs[f"w{name}"] = weights[f"{key}.weight"]
            self.convs[f"b{name}"] = weights[f"{key}.bias"]
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.layers = [f"relu{name}" for name in _names(blocks) if f"w{name}" in self.convs]
        self.requires_grad_(False)

    def forward(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """RGB (N, 3, H, W), 0-1 -> activations (N, C, H', W') of ``layers``."""
        x = (x - self.get_buffer("mean")) / self.get_buffer("std")
        # Said here, where there are three channels: what follows keeps the layout, and pools nine times as fast.
        x = x.contiguous(memory_format=torch.channels_last)
        found: dict[str, Tensor] = {}
        for layer in self.layers[: max(map(self.layers.index, layers)) + 1]:
            name = layer.removeprefix("relu")
            if name.endswith("_1") and name != "1_1":
                x = F.max_pool2d(x, 2)
            x = F.conv2d(x, self.convs[f"w{name}"], self.convs[f"b{name}"], padding=1).relu_()
            if layer in layers:
                found[layer] = x
        return found


class SlimVGG19(nn.Module):
    """VGG-19 with a sixteenth of the weights (Wang et al., Collaborative Distillation, 2020), frozen.

    ``reluB_1`` is the slim activation, projected to the full network's channels.
    """

    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({k.replace(".", "_"): v for k, v in weights.items()})
        self.requires_grad_(False)

    def _conv(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights[f"{name}_weight"]
        if weight.shape[-1] == 3:
            x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(x, weight, self.weights[f"{name}_bias"]).relu_()

    def forward(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """RGB (N, 3, H, W), 0-1 -> estimated activations of ``layers``."""
        found: dict[str, Tensor] = {}
        for name in NAMES:
            if name.endswith("_1") and name != "1_1":
                x = F.max_pool2d(x, 2)
            x = self._conv(x, f"conv{name}")
            if f"relu{name}" in layers:
                found[f"relu{name}"] = self._conv(x, f"proj{name}")
            if len(found) == len(layers):
                break
        return found


class Perceptual(nn.Module):
    """Activations by layer name, each from the full network where it has the layer, else the slim."""

    def __init__(self, layers: Iterable[str], weight_sets: Sequence[Weights], network: str = "vgg19") -> None:
        super().__init__()
        which = NETWORKS[network]
        full = next((w for w in weight_sets if "features.0.weight" in w), None)
        slim = next((w for w in weight_sets if "proj1_1.weight" in w), None)
        self.full = VGG(full, which.blocks) if full is not None else None
        self.slim = SlimVGG19(slim) if slim is not None else None
        have_full = self.full.layers if self.full else []
        have_slim = self.slim.layers if self.slim else ()
        self.full_layers = [x for x in dict.fromkeys(layers) if x in have_full]
        self.slim_layers = [x for x in dict.fromkeys(layers) if x not in have_full]
        if missing := [x for x in self.slim_layers if x not in have_slim]:
            deepest = have_full[-1] if have_full else "no layer"
            raise TrainError(
                f"got: perceptual weights up to {deepest}; expected: {', '.join(missing)}.\n"
                f"Do this: give {which.option} a deeper {which.name} file, or leave {which.option} out to download it, "
                "or leave those layers out of the loss."
            )

    def forward(self, x: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """RGB (N, 3, H, W), 0-1 -> {layer: activation (N, C, H', W')}, of all layers or of some."""
        wanted = self.full_layers + self.slim_layers if layers is None else set(layers)
        full = [layer for layer in self.full_layers if layer in wanted]
        slim = [layer for layer in self.slim_layers if layer in wanted]
        found: dict[str, Tensor] = {}
        if self.full is not None and full:
            found |= self.full(x, full)
        if self.slim is not None and slim:
            found |= self.slim(x, slim)
        return found


def available_layers(weight_sets: Sequence[Weights]) -> set[str]:
    """Layers that some of the weights have."""
    there = {f"relu{n}" for n in NAMES for w in weight_sets if f"features.{_feature_index(n)}.weight" in w}
    return there.union(*(SlimVGG19.layers for w in weight_sets if "proj1_1.weight" in w))


def load_weight_sets(paths: Sequence[Path] = (), network: str = "vgg19") -> list[Weights]:
    """Weights of every file in ``paths``, else of STYLESDK_VGG or STYLESDK_VGG16, else PyTorch's own file.

    Beside a VGG-19 file that stops early, other perceptual files of its folder are read too, so that
    a slim network there serves the deeper layers.
    """
    which = NETWORKS[network]
    if not paths and os.environ.get(which.environment):
        paths = [Path(p) for p in os.environ[which.environment].split(os.pathsep) if p]
    if not paths:
        return [_download(which)]
    weight_sets = [_load(path, which) for path in paths]
    for path, weights in zip(paths, weight_sets, strict=True):
        _refuse_other(weights, path, which)
    if network == "vgg19" and not any("features.34.weight" in w or "proj1_1.weight" in w for w in weight_sets):
        beside = {s for p in paths for s in p.parent.glob("*.safetensors")} - set(paths)
        weight_sets += [w for w in (_load(path, which) for path in sorted(beside)) if "proj1_1.weight" in w]
    return weight_sets


def _download(which: Network) -> Weights:
    try:
        weights: Weights = torch.hub.load_state_dict_from_url(which.url, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network; a file of another hash
        raise TrainError(
            f"got: {error} while downloading {which.name} from {which.url}; expected: the weights of the perceptual "
            f"loss.\nDo this: check the network, or give a local file with {which.option} or {which.environment}."
        ) from error
    return weights


def _load(path: Path, which: Network) -> Weights:
    if not path.is_file():
        raise TrainError(
            f"got: no file at {path}; expected: {which.name} weights (.safetensors or .pth).\n"
            f"Do this: give {which.option} an existing file, or leave it out to download the weights."
        )
    try:
        weights: Weights
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainError(
            f"got: {path}, which does not read as weights ({error}).\n"
            f"Do this: download it again; .safetensors or torchvision's {which.name} .pth are expected."
        ) from error
    return weights


def _refuse_other(weights: Weights, path: Path, which: Network) -> None:
    """VGG-16 and VGG-19 have the same keys up to relu3_3: the fourth convolution of block 3 tells them apart."""
    if "features.0.weight" not in weights and "proj1_1.weight" not in weights:
        raise TrainError(
            f"got: {path}, whose weights are of another network; expected: {which.name} weights.\n"
            f"Do this: give {which.option} a {which.name} file, or leave it out to download the weights."
        )
    held = "VGG-19" if "features.16.weight" in weights else "VGG-16" if "features.17.weight" in weights else which.name
    if held != which.name:
        raise TrainError(
            f"got: {path}, which holds {held}; expected: {which.name} weights, for {which.option}.\n"
            "Do this: give --vgg a VGG-19 file, --vgg16 a VGG-16 file."
        )
