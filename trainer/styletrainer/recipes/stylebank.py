"""StyleBank (Chen, Yuan, Liao, Yu, Hua 2017): T stylising steps, then one of the auto-encoder, and so on.

A stylising step teaches encoder, decoder and one style's bank by content + Gram style + total variation (Gatys et al.
2016, Johnson et al. 2016); the auto-encoder's step teaches encoder and decoder to give the photo back without a bank,
so that whatever makes a style has to go into its bank. The paper scales the auto-encoder's gradient to lambda times the
length of the stylising one, so that neither outweighs the other. Here each branch has an optimiser of its own whose
steps have one length whatever the gradient's (Muon, Adam), and lambda is the ratio of these lengths. With one optimiser
for both, the stylising momentum carried encoder and decoder away between two steps of the auto-encoder.

A style that is added to a finished run (``new_style_only``) learns its bank; encoder and decoder stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer import losses
from styletrainer.config import TrainConfig
from styletrainer.data.crops import (
    Crops,
    crop_batches,
    read_artwork,
    sample_photos,
    tensor_from_rgb,
    without_context,
)
from styletrainer.data.photos import list_photos
from styletrainer.errors import TrainError
from styletrainer.generators import StyleBank, build_generator
from styletrainer.perceptual import Perceptual, load_weight_sets
from styletrainer.recipe import Batch, Player, Step, Terms, Turn
from styletrainer.run.muon import Muon
from styletrainer.run.report import styled_rows
from styletrainer.run.start import begin_with, learn_last_style

Found = TypeVar("Found")


class StyleBankRecipe(nn.Module):
    """StyleBank's training. Pictures are RGB float (N, 3, H, W), 0-1."""

    UNREAD = ("adversarial_weight", "grid_weight", "equivariance_weight", "teacher_weight")
    # Content and style layers and weights of the teacher stage, whose network is as large.
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "generator": "stylebank",
        "learning_rate": 2e-3,
        "content_layers": {"relu3_3": 1.0},
        "style_layers": {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_1": 1.0, "relu4_1": 0.7, "relu5_1": 0.5},
        "style_octaves": 1,
        "adversarial_weight": 0.0,
        "equivariance_weight": 0.0,
        "grid_weight": 0.0,
    }

    @dataclass(frozen=True)
    class Options:
        """Settings of this recipe alone."""

        stylising_steps: int = 2  # T, before a step of the auto-encoder
        autoencoder_factor: float = 1.0  # lambda, its steps' length over the stylising ones'; 0 leaves it out

        def __post_init__(self) -> None:
            if self.stylising_steps < 1:
                raise ValueError(f"stylising_steps is {self.stylising_steps}, expected at least 1")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config, self.options = config, config.options()
        self._read(config)
        generator = build_generator(config.generator, config.all_generator_options())
        assert isinstance(generator, StyleBank)
        self.generator = generator
        if config.start:
            begin_with(generator, config, Path(config.start))
        if config.new_style_only:
            learn_last_style(generator)
        self.shared = nn.ModuleList([generator.encoder, generator.decoder])
        self._remember_styles()

    def _read(self, config: TrainConfig) -> None:
        """Photos, artworks, perceptual weights. Raises one TrainError of all that is wrong."""
        problems = []

        def found(read: Callable[[], Found]) -> Found | None:
            try:
                return read()
            except TrainError as error:
                problems.append(str(error))
                return None

        if config.generator != "stylebank":
            problems.append(f"got: generator {config.generator}; expected: stylebank, the one that has banks.")
        if config.pictures:
            problems.append("got: --pictures; expected: none, recipe stylebank has no teacher.\nDo this: leave it out.")
        if config.compile:
            problems.append("got: compile; expected: false, since recipe stylebank runs the network in parts.")
        self.photos = found(lambda: list_photos(Path(config.photos))) or []
        scans = [found(lambda p=p: read_artwork(Path(p), config.artwork_size, config.crop)) for p in config.artworks]  # type: ignore[misc]
        layers = [*config.content_layers, *config.style_layers]
        perceptual = found(lambda: Perceptual(layers, load_weight_sets([Path(p) for p in config.vgg])))
        if problems:
            raise TrainError("\n".join(problems))
        assert perceptual is not None
        one_each = config.styles and not config.new_style_only
        self.artworks = [[a] for a in scans if a is not None] if one_each else [[a for a in scans if a is not None]]
        self.perceptual = perceptual.to(memory_format=torch.channels_last)
        self.samples = sample_photos(self.photos)

    @torch.no_grad()
    def _remember_styles(self) -> None:
        """A style's Gram matrices, averaged over its artworks, as buffers."""
        for style, of_style in enumerate(self.artworks):
            per_artwork = [
                {name: losses.gram(found) for name, _, found in self._style_features(tensor_from_rgb(artwork)[None])}
                for artwork in of_style
            ]
            for name in per_artwork[0]:
                self.register_buffer(
                    f"style{style}_{name}", torch.stack([grams[name] for grams in per_artwork]).mean(0)
                )

    def players(self) -> dict[str, Player]:
        rate = self.config.learning_rate
        learning = [parameter for parameter in self.generator.parameters() if parameter.requires_grad]
        found = {"generator": Player(self.generator, Muon([{"params": learning}], rate), rate, max_norm=1.0)}
        if self._has_autoencoder():
            pace = rate * self.options.autoencoder_factor
            shared = Muon([{"params": list(self.shared.parameters())}], pace)
            found["autoencoder"] = Player(self.shared, shared, pace)
        return found

    def batches(self, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        config = self.config
        crops = Crops(self.photos, self.artworks, config.crop, config.batch * world, config.seed)
        found = crop_batches(
            crops, first_step=first_step, batch=config.batch, rank=rank, world=world, workers=config.workers
        )
        for photo, _, _, skipped in found:
            yield {"photo": photo, "skipped": torch.tensor(skipped)}

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:
        """``photo`` has CONTEXT more on every side."""
        photo = batch["photo"]
        learned, bank = self._style_of(step.number)
        if learned is None:
            output = without_context(self.generator.reconstruct(photo)).float()
            yield Turn("autoencoder", {"identity": F.mse_loss(output, without_context(photo))})
            return
        output = without_context(self.generator.paint(photo, bank)).float()
        terms = self._stylising_terms(output, without_context(photo), learned)
        weights = {name: getattr(self.config, f"{name}_weight") for name in terms}
        yield Turn("generator", terms, weights, output, learned)

    def sheet(self, averaged: nn.Module) -> list[list[Tensor]]:
        """Photos, what the auto-encoder makes of them, and a row a style that learns."""
        assert isinstance(averaged, StyleBank)
        rows = styled_rows(averaged, self.samples, [tensor_from_rgb(of_style[0]) for of_style in self.artworks])
        device = next(averaged.parameters()).device
        with torch.no_grad():
            rows.insert(1, [rows[0][0], *averaged.reconstruct(torch.stack(self.samples).to(device))])
        return rows

    def _has_autoencoder(self) -> bool:
        return not self.config.new_style_only and self.options.autoencoder_factor > 0

    def _style_of(self, step: int) -> tuple[int | None, int]:
        """Which of the styles that learn this step trains, and its bank; None where the auto-encoder has its turn."""
        if self.config.new_style_only:
            return 0, len(self.config.styles) - 1
        if self._has_autoencoder():
            cycle, place = divmod(step, self.options.stylising_steps + 1)
            if place == self.options.stylising_steps:
                return None, 0
            step = cycle * self.options.stylising_steps + place
        turn = step % len(self.artworks)
        return turn, turn

    def _style_features(self, picture: Tensor, features: Terms | None = None) -> Iterator[tuple[str, str, Tensor]]:
        """Name, layer and activations of the picture, of its half, and so on; ``features``: the picture's, if known."""
        for octave in range(self.config.style_octaves):
            if octave:
                picture, features = F.avg_pool2d(picture, 2), None
            features = features or self.perceptual(picture, self.config.style_layers)
            for layer in self.config.style_layers:
                yield f"gram{octave}_{layer}", layer, features[layer]

    def _stylising_terms(self, output: Tensor, photo: Tensor, style: int) -> Terms:
        """Unweighted losses of ``output`` in style number ``style`` for ``photo``, means over the batch's items."""
        config, layers = self.config, self.config.content_layers
        with torch.no_grad():
            wanted = self.perceptual(photo, layers)
        features = self.perceptual(output)
        content = [w * losses.content_loss(features[layer], wanted[layer]) for layer, w in layers.items()]
        style_terms = [
            config.style_layers[layer] * losses.style_loss(found, self.get_buffer(f"style{style}_{name}"))
            for name, layer, found in self._style_features(output, features)
        ]
        return {
            "tv": losses.total_variation(output),
            "content": torch.stack(content).sum(),
            "style": torch.stack(style_terms).sum(),
        }
