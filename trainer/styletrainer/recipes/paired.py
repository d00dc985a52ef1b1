"""Mixed-centroid paired GAN: learns from pairs of a photo and the picture that it should become.

A pair has a style and a similarity, how much it is to be trusted. Local VGG activations of its two pictures fuse to one
vector, the mixed centroid (``mixture``), which conditions the generator; at run time a style is the mean vector of its
pairs, chosen by name or by the photo's content (``retrieval``). The critic judges (photo, picture) pairs (pix2pix,
Isola et al. 2017); beside it the distance to the target, Gram matrices (Gatys et al. 2016), MRF patches (Li & Wand
2016), and the target's distance once more where the photo has small salient things.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from styletrainer import losses
from styletrainer.config import TrainConfig
from styletrainer.data.crops import item_batches, sample_photos, tensor_from_rgb
from styletrainer.discriminators import PatchGAN
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator, with_margin
from styletrainer.generators.paired import Paired as Generator
from styletrainer.losses import paired as losses_paired
from styletrainer.pairs.dataset import Pair, PairCrops, held_out, picture_of_pair, read_pairs, styles_of
from styletrainer.pairs.fused_codes import fused_codes
from styletrainer.pairs.similarity import feature_similarity, ssim
from styletrainer.perceptual import NETWORKS, Perceptual, Weights, load_weight_sets
from styletrainer.recipe import Batch, Player, Step, Terms, Turn, frozen
from styletrainer.run.report import thumbnail

_JUDGED = 512  # pixels, sides at most of what the test stage compares: a VGG's activations of a scan fill the memory


class Paired(nn.Module):
    """The mixed-centroid paired GAN. Pictures are RGB float (N, 3, H, W), 0-1."""

    NEEDS = ("pairs",)
    UNREAD = (
        *("look", "start", "pictures", "artwork_size", "style_octaves", "content_weight", "tv_weight"),
        *("grid_weight", "equivariance_weight", "teacher_weight"),
    )
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "generator": "paired",
        "artworks": (),
        "photos": "",
        "learning_rate": 1e-3,
        "critic_learning_rate": 2e-4,
        "style_weight": 0.2,
        "adversarial_weight": 0.02,
    }

    @dataclass(frozen=True)
    class Options:
        """Settings of this recipe alone."""

        descriptor: str = "vgg16"  # or vgg19: describes pictures, for the codes and in the losses
        fusion: str = "em"  # or greedy: how the mixture is fitted
        components: int = 8  # of the mixture
        classes: int = 8  # of photos, for the choice of a style by content
        test_share: float = 0.1  # of the photos, with all of their pairs, kept for the similarity score
        target_weight: float = 2.0  # on the pixels' distance, weighted by the pair's similarity
        feature_weight: float = 0.5  # on the activations' distance to the target's
        small_object_weight: float = 1.0
        mrf_weight: float = 0.1
        mrf_layers: tuple[str, ...] = ("relu3_1", "relu4_1")

        def __post_init__(self) -> None:
            """Raises ValueError for what is no choice."""
            if self.descriptor not in NETWORKS or self.fusion not in ("em", "greedy"):
                raise ValueError("expected descriptor vgg16 or vgg19, fusion em or greedy")
            if not self.mrf_layers:
                raise ValueError("expected a layer in mrf_layers; mrf_weight 0 leaves the loss out")
            if not (1 <= self.components <= 64 and 1 <= self.classes <= 1024 and 0 <= self.test_share < 1):
                raise ValueError("expected components 1-64, classes 1-1024, test_share 0 up to 1")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        if config.generator != "paired":
            raise TrainError(f"got: generator {config.generator}; expected: paired, the only one of this recipe.")
        if told := {"network", "classes"} & config.generator_options.keys():
            raise TrainError(
                f"got: {', '.join(sorted(told))} among generator_options; expected: none, the recipe sets them.\n"
                "Do this: --set descriptor=vgg16 or vgg19, --set classes=NUMBER."
            )
        self.options: Paired.Options = config.options()
        pairs = read_pairs(Path(config.pairs))
        self.pairs, self.test_pairs = held_out(pairs, self.options.test_share)
        self.styles = _styles(pairs, config)
        self.sources = list(dict.fromkeys(pair.source for pair in self.pairs))
        self.config = dataclasses.replace(
            config,
            styles=tuple(self.styles) if len(self.styles) > 1 else (),
            generator_options=config.generator_options
            | {"network": self.options.descriptor, "classes": min(self.options.classes, len(self.sources))},
        )
        weight_sets = self._weight_sets()
        self.generator = build_generator(config.generator, self.config.all_generator_options())
        self.critic = PatchGAN(config.critic_channels, config.critic_strided, channels_in=6)
        self.judging = nn.ModuleList([self.critic])
        layers = [*config.content_layers, *config.style_layers, *self.options.mrf_layers]
        self.perceptual = Perceptual(layers, weight_sets, self.options.descriptor)
        self.perceptual.to(memory_format=torch.channels_last)
        self._remember_codes(weight_sets)
        self.samples = sample_photos(list(dict.fromkeys(p.source for p in self.test_pairs)) or self.sources)

    def _weight_sets(self) -> list[Weights]:
        name = self.options.descriptor
        paths = self.config.vgg16 if name == "vgg16" else self.config.vgg
        try:
            return load_weight_sets([Path(p) for p in paths], name)
        except TrainError as error:
            other = "vgg19, with weights from --vgg" if name == "vgg16" else "vgg16, with weights from --vgg16"
            raise TrainError(f"{error}\nOr train with the other network: --set descriptor={other}") from error

    def _remember_codes(self, weight_sets: list[Weights]) -> None:
        """The pairs' and the styles' codes, and what the choice of a style needs, as buffers."""
        generator, options = self.generator, self.options
        assert isinstance(generator, Generator)
        generator.descriptor.load(weight_sets)
        found = fused_codes(
            generator.descriptor,
            self.pairs,
            self.styles,
            size=generator.code,
            components=options.components,
            classes=options.classes,
            greedy=options.fusion == "greedy",
            seed=self.config.seed,
        )
        generator.remember(found.of_styles, found.classes, found.class_styles)
        # A player's, and so state: a resumed run goes on with the codes that it began with, whatever a fit now finds.
        self.judging.register_buffer("pair_code", found.of_pairs)
        self.register_buffer("pair_style", torch.tensor([self.styles.index(pair.style) for pair in self.pairs]))
        self.register_buffer("similarity", torch.tensor([pair.similarity for pair in self.pairs]))

    def players(self) -> dict[str, Player]:
        config = self.config
        learning = [parameter for parameter in self.generator.parameters() if parameter.requires_grad]
        generator = torch.optim.Adam(learning, config.learning_rate, betas=(0.5, 0.99))
        critic = torch.optim.Adam(self.critic.parameters(), config.critic_learning_rate, betas=(0.0, 0.99))
        return {
            "generator": Player(self.generator, generator, config.learning_rate, max_norm=1.0),
            "critic": Player(self.judging, critic, config.critic_learning_rate),
        }

    def batches(self, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        config = self.config
        crops = PairCrops(self.pairs, config.crop, config.seed)
        found = item_batches(
            crops, first_step=first_step, batch=config.batch, rank=rank, world=world, workers=config.workers
        )
        for source, target, importance, pair in found:
            yield {"source": source, "target": target, "importance": importance, "pair": pair}

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:
        """``source``, ``target``, ``importance`` (N, 1, H, W) and the number of each ``pair`` (N,)."""
        source, target, options = batch["source"], batch["target"], self.options
        output = self.generator(source, self._codes(batch["pair"], step))
        if self.config.adversarial_weight:
            real = self.critic(torch.cat([source, target], 1))
            fake = self.critic(torch.cat([source, output.detach()], 1))
            yield Turn("critic", {"critic": losses.critic_loss(real, fake, self.config.adversarial)})  # type: ignore[arg-type]

        terms = self._generator_terms(output, batch)
        weights = {name: getattr(options, f"{name}_weight") for name in ("target", "feature", "small_object", "mrf")}
        weights |= {"style": self.config.style_weight, "adversarial": self.config.adversarial_weight}
        yield Turn("generator", terms, weights)

    def _codes(self, pair: Tensor, step: Step) -> Tensor:
        """Somewhere between each pair's own code and its style's: the pair's tells more, the style's is used later."""
        share = torch.stack([torch.rand(1, generator=step.item_random(i)) for i in range(len(pair))]).to(pair.device)
        of_style = _codes_of(self.generator)[self.get_buffer("pair_style")[pair]]
        return torch.lerp(of_style, self.judging.get_buffer("pair_code")[pair], share)

    def _generator_terms(self, output: Tensor, batch: Batch) -> Terms:
        """Unweighted losses of the generator's ``output``; those of weight 0 are left out."""
        config, options, target = self.config, self.options, batch["target"]
        ours = self.perceptual(output, self._layers())
        with torch.no_grad():
            theirs = self.perceptual(target, self._layers())
        terms: Terms = {}
        if options.target_weight:
            similarity = self.get_buffer("similarity")[batch["pair"]]
            terms["target"] = losses_paired.pixel_loss(output, target, similarity)
        if options.feature_weight:
            terms["feature"] = _sum(losses.content_loss, ours, theirs, config.content_layers)
        if options.small_object_weight:
            terms["small_object"] = losses_paired.important_loss(output, target, batch["importance"])
        if options.mrf_weight:
            equal = dict.fromkeys(options.mrf_layers, 1 / len(options.mrf_layers))
            terms["mrf"] = _sum(losses_paired.mrf_loss, ours, theirs, equal)
        if config.style_weight:
            terms["style"] = _sum(losses_paired.gram_loss, ours, theirs, config.style_layers)
        if config.adversarial_weight:
            with frozen(self.critic):
                judged = self.critic(torch.cat([batch["source"], output], 1))
            terms["adversarial"] = losses.fooling_loss(judged, config.adversarial)  # type: ignore[arg-type]
        return terms

    def _layers(self) -> set[str]:
        """Layers that the losses in use ask for: a term of weight 0 costs nothing."""
        layers = set(self.config.content_layers) if self.options.feature_weight else set()
        layers |= set(self.config.style_layers) if self.config.style_weight else set()
        return layers | (set(self.options.mrf_layers) if self.options.mrf_weight else set())

    @torch.no_grad()
    def sheet(self, averaged: nn.Module) -> list[list[Tensor]]:
        """Photos, those that are not learned from where there are some, and a row a style beside a picture in it."""
        batch = torch.stack(self.samples)
        rows = [[torch.ones_like(batch[0]), *batch]]
        for name, code in zip(self.styles, _codes_of(averaged), strict=True):
            example = next(pair.target for pair in self.pairs if pair.style == name)
            styled = with_margin(averaged, batch.to(code), code)
            rows.append([thumbnail(_picture(example), batch.shape[2:]), *styled])
        return rows

    @torch.no_grad()
    def scores(self, averaged: nn.Module) -> dict[str, float]:
        """The test stage: similarity of the outputs for the kept pairs to their targets; {} where none are kept."""
        found = []
        for pair in self.test_pairs[:: -(-len(self.test_pairs) // 8) or 1]:
            code = _codes_of(averaged)[self.styles.index(pair.style)]
            target = _centre(pair.target)[None].to(code)
            output = with_margin(averaged, _centre(pair.source)[None].to(code), code)
            layers = self.config.content_layers
            alike = feature_similarity(self.perceptual(output, layers), self.perceptual(target, layers))
            found.append((alike, ssim(output[0], target[0])))
        if not found:
            return {}
        return {"similarity": sum(s for s, _ in found) / len(found), "ssim": sum(s for _, s in found) / len(found)}


def _codes_of(generator: nn.Module) -> Tensor:
    codes: Tensor = generator.codes()  # type: ignore[operator]
    return codes


def _sum(loss: Callable[[Tensor, Tensor], Tensor], ours: Terms, theirs: Terms, weights: Mapping[str, float]) -> Tensor:
    """Weighted sum over the layers in ``weights``."""
    return torch.stack([weight * loss(ours[layer], theirs[layer]) for layer, weight in weights.items()]).sum()


def _picture(path: Path) -> Tensor:
    """RGB (3, H, W), 0-1."""
    return tensor_from_rgb(picture_of_pair(path))


def _centre(path: Path) -> Tensor:
    """RGB (3, H, W), 0-1, the middle of a picture at its own scale, as crops of it are learned."""
    picture = picture_of_pair(path)
    y, x = (max(side - _JUDGED, 0) // 2 for side in picture.shape[:2])
    return tensor_from_rgb(picture[y : y + _JUDGED, x : x + _JUDGED])


def _styles(pairs: list[Pair], config: TrainConfig) -> list[str]:
    """Names of the styles, which the pairs tell."""
    found = styles_of(pairs)
    if config.styles and list(config.styles) != found:
        raise TrainError(
            f"got: styles {', '.join(config.styles)}; expected: {', '.join(found)}, those of {config.pairs}.\n"
            "Do this: leave `styles` out, the pairs name them."
        )
    return found
