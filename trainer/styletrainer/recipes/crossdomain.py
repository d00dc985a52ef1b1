"""Cross-domain GAN: a photo in the style of any artwork, also of one that training never saw.

The style is that of each item's own style picture (Huang & Belongie 2017): its Gram matrices, means and deviations.
The content loss does not see colour and contrast (the domain-invariant perceptual loss of Huang et al. 2018, MUNIT).
A multi-scale critic (Wang et al. 2018) judges whether two pictures are of one style. A picture with its own code comes
back as it was; the code of an output is the one that it was painted with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer import losses
from styletrainer.config import TrainConfig, config_from_run
from styletrainer.data.crops import CONTEXT, Crops, crop_batches, sample_photos, without_context
from styletrainer.data.photos import Photo, list_photos
from styletrainer.data.style_pictures import Artworks, StylePairs
from styletrainer.discriminators import MultiScalePatch, least_size
from styletrainer.errors import TrainError
from styletrainer.generators import CrossDomain, build_generator, with_margin
from styletrainer.losses.distances import gram_loss, moment_loss
from styletrainer.perceptual import Perceptual, load_weight_sets
from styletrainer.recipe import Batch, Player, Step, Terms, Turn, frozen
from styletrainer.run.checkpoint import WEIGHTS, load_state, load_weights
from styletrainer.run.muon import Muon
from styletrainer.run.report import thumbnail

_LINEAR_PACE = 0.3  # of what is no kernel: a code's 128 numbers push a mean all at once
_SHOWN = 8  # styles on a sheet


class CrossDomainGAN(nn.Module):
    """Arbitrary style transfer on unpaired pictures. Pictures are RGB float (N, 3, H, W), 0-1."""

    EVERY_ARTWORK_A_STYLE = True
    UNREAD = ("style_octaves", "equivariance_weight", "teacher_weight")
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "generator": "crossdomain",
        "crop": 128,
        "style_weight": 1.0,
        "adversarial_weight": 0.1,
        "tv_weight": 0.1,
        "content_layers": {"relu3_1": 0.3, "relu4_1": 1.0},
        "style_layers": {"relu1_1": 0.5, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0},
        "critic_channels": 32,
    }

    @dataclass(frozen=True)
    class Options:
        """Settings of this recipe alone."""

        moment_weight: float = 2.0  # on means and deviations, of the style layers
        reconstruction_weight: float = 4.0  # on the L1 distance of a picture with its own code
        code_weight: float = 0.2  # on the distance of an output's code to the one that it was given
        critic_scales: int = 2  # the critic sees the picture, its half, its quarter …
        photo_styles: float = 0.15  # share of items whose style picture is a photo
        drawn_styles: float = 0.25  # share of items whose style picture is a drawn texture
        recoloured: float = 0.5  # share of style pictures with other colours

        def __post_init__(self) -> None:
            if self.photo_styles + self.drawn_styles > 1:
                raise ValueError("photo_styles and drawn_styles are shares, at most 1 together")
            if self.recoloured > 1:
                raise ValueError("recoloured is a share, 0 to 1")
            if self.critic_scales < 1:
                raise ValueError("critic_scales is at least 1")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config, self.options = config, config.options()
        self.photos, self.artworks = self._data()
        self.samples = sample_photos(self.photos)
        generator = build_generator(config.generator, config.all_generator_options())
        assert isinstance(generator, CrossDomain)
        self.generator = generator
        if config.start:
            self._begin_with(Path(config.start))
        self.generator.get_buffer("short_side").fill_(max(config.artwork_size, config.crop + 2 * CONTEXT))
        self.critic = MultiScalePatch(
            config.critic_channels, config.critic_strided, self.options.critic_scales, channels_in=6
        )
        layers = [*config.content_layers, *config.style_layers]
        self.perceptual = Perceptual(layers, load_weight_sets([Path(p) for p in config.vgg]))
        self.perceptual.to(memory_format=torch.channels_last)

    def _data(self) -> tuple[list[Photo], Artworks]:
        """Photos and artworks, and everything that is wrong with them and the settings in one TrainError."""
        config = self.config
        problems = [
            f"got: {name}; expected: none, any picture's style is taken at run time.\nDo this: leave it out."
            for name in ("pictures", "new_style_only")
            if getattr(config, name)
        ]
        if config.generator != "crossdomain":
            problems.append(
                f"got: generator {config.generator}; expected: crossdomain, which takes a style code.\n"
                "Do this: leave --generator out."
            )
        if config.crop < least_size(config.critic_strided + self.options.critic_scales - 1):
            problems.append(
                f"got: critic_scales {self.options.critic_scales} with critic_strided {config.critic_strided}; "
                f"expected: fewer, the smallest critic sees too little of a crop of {config.crop} pixels.\n"
                "Do this: lower critic_scales, or raise crop."
            )
        photos, artworks = (
            _read(problems, lambda: list_photos(Path(config.photos))),
            _read(problems, lambda: Artworks(config.artworks, config.artwork_size, config.crop + 2 * CONTEXT)),
        )
        if problems or photos is None or artworks is None:
            raise TrainError("\n".join(problems))
        return photos, artworks

    def _begin_with(self, run: Path) -> None:
        """The weights of ``run``, of whatever artworks: their codes are not taken over."""
        before = config_from_run(run)
        other = build_generator(before.generator, before.all_generator_options())
        load_weights(other, run / WEIGHTS)
        load_state(self.generator, other.state_dict() | {"named": self.generator.codes()}, str(run))

    def players(self) -> dict[str, Player]:
        config = self.config
        parameters = list(self.generator.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim == 4], "pace": 1.0},
            {"params": [p for p in parameters if p.ndim != 4], "pace": _LINEAR_PACE},
        ]
        critic = torch.optim.Adam(self.critic.parameters(), config.critic_learning_rate, betas=(0.0, 0.99))
        return {
            "generator": Player(self.generator, Muon(groups, config.learning_rate), config.learning_rate, max_norm=1.0),
            "critic": Player(self.critic, critic, config.critic_learning_rate),
        }

    def batches(self, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        config, options = self.config, self.options
        blank = torch.zeros(config.crop, config.crop, 3, dtype=torch.uint8).numpy()  # artworks come from elsewhere
        pairs = StylePairs(
            Crops(self.photos, [[blank]], config.crop, config.batch * world, config.seed),
            self.artworks,
            photos=options.photo_styles,
            drawn=options.drawn_styles,
            recoloured=options.recoloured,
        )
        found = crop_batches(
            pairs, first_step=first_step, batch=config.batch, rank=rank, world=world, workers=config.workers
        )
        for photo, style, other, skipped in found:
            yield {"photo": photo, "style": style, "other": other, "skipped": torch.tensor(skipped)}

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:
        """``photo`` and ``style`` have CONTEXT more on every side, ``other`` is a second crop of the style picture."""
        config, photo, style, other = self.config, batch["photo"], batch["style"], batch["other"]
        code = self.generator.style(style)
        # Every other step in turn: a photo with its own code, a style picture with its own.
        own = (photo, None, style, None)[step.number % 4]
        if own is None:
            painted = self.generator(photo, code)
        else:
            own_code = code if own is style else self.generator.style(own)
            painted = self.generator(torch.cat([photo, own]), torch.cat([code, own_code]))
        output, *same = without_context(painted.float()).split(len(photo))
        if config.adversarial_weight:
            real = self.critic(torch.cat([without_context(style), other], 1))
            fake = self.critic(torch.cat([output.detach(), other], 1))
            scales = [losses.critic_loss(r, f, config.adversarial) for r, f in zip(real, fake, strict=True)]  # type: ignore[arg-type]
            yield Turn("critic", {"critic": torch.stack(scales).mean()})

        terms = self._painted_terms(output, photo, style, other)
        if own is not None:
            terms["reconstruction"] = F.l1_loss(same[0], without_context(own))
        terms["code"] = (self.generator.style(output) - code.detach()).square().mean()
        weights = dataclasses.asdict(config) | dataclasses.asdict(self.options)
        yield Turn("generator", terms, {name: weights[f"{name}_weight"] for name in terms}, output)

    def _painted_terms(self, output: Tensor, photo: Tensor, style: Tensor, other: Tensor) -> Terms:
        """Unweighted losses of the ``output`` (N, 3, crop, crop) for each item's photo and style picture."""
        config = self.config
        features = self.perceptual(output)
        with torch.no_grad():
            content = self.perceptual(without_context(photo), config.content_layers)
            wanted = self.perceptual(without_context(style), config.style_layers)
            grams = {layer: losses.gram(wanted[layer]) for layer in config.style_layers}
        terms: Terms = {"tv": losses.total_variation(output), "grid": losses.grid_loss(output)}
        terms["content"] = _weighted(
            config.content_layers,
            {x: losses.content_loss(*map(F.instance_norm, (features[x], content[x]))) for x in config.content_layers},
        )
        terms["style"] = _weighted(
            config.style_layers, {x: gram_loss(features[x], grams[x]) for x in config.style_layers}
        )
        terms["moment"] = _weighted(
            config.style_layers, {x: moment_loss(features[x], wanted[x]) for x in config.style_layers}
        )
        if config.adversarial_weight:
            with frozen(self.critic):
                fake = self.critic(torch.cat([output, other], 1))
            terms["adversarial"] = torch.stack([losses.fooling_loss(f, config.adversarial) for f in fake]).mean()  # type: ignore[arg-type]
        return terms

    @torch.no_grad()
    def finish(self, averaged: nn.Module) -> None:
        """Fill the averaged generator's table of codes: of every artwork its own, of a folder their mean."""
        averaged.get_buffer("named").copy_(self._codes(averaged))

    def _codes(self, averaged: nn.Module) -> Tensor:
        table = averaged.get_buffer("named")
        styles = map(self.artworks.whole, range(len(self.artworks.styles)))
        found = [[averaged.style(picture[None].to(table)) for picture in pictures] for pictures in styles]  # type: ignore[operator]
        return torch.stack([torch.cat(codes).mean(0) for codes in found])

    @torch.no_grad()
    def sheet(self, averaged: nn.Module) -> list[list[Tensor]]:
        codes = self._codes(averaged)[:_SHOWN]
        photos = torch.stack(self.samples).to(codes)
        rows = [[torch.ones_like(self.samples[0]), *self.samples]]
        for style, code in enumerate(codes):
            artwork = thumbnail(self.artworks.whole(style)[0], photos.shape[2:])
            rows.append([artwork, *with_margin(averaged, photos, code)])
        return rows


Read = TypeVar("Read")


def _read(problems: list[str], read: Callable[[], Read]) -> Read | None:
    """What ``read`` gives; what is wrong with it goes to ``problems``."""
    try:
        return read()
    except TrainError as error:
        problems.append(str(error))
        return None


def _weighted(weights: dict[str, float], values: Terms) -> Tensor:
    """Mean of ``values`` by layer, weighted."""
    return torch.stack([weight * values[layer] for layer, weight in weights.items()]).sum() / sum(weights.values())
