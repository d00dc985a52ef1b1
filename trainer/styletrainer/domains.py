"""Two unpaired domains: photos (A), and the pictures whose look they shall have (B).

Nothing in A belongs to anything in B. B may be a single painting: crops of it at several scales make a domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from styletrainer.config import TrainConfig
from styletrainer.data.crops import (
    Item,
    Picture,
    crop_batches,
    random_crop,
    read_picture,
    scaled,
    tensor_from_rgb,
)
from styletrainer.data.photos import ARCHIVES, Photo, list_photos
from styletrainer.errors import TrainError, listed
from styletrainer.recipe import Batch, Player
from styletrainer.run.muon import Muon, parameter_groups

# Crops of B show it at a short side of `artwork_size` over or times this: one octave.
SCALES = 2**0.5
# Settings of other losses than the two recipes of unpaired domains have.
UNREAD = (
    *("look", "content_weight", "style_weight", "tv_weight"),
    *("grid_weight", "equivariance_weight", "teacher_weight"),
    *("content_layers", "style_layers"),
)


def read_domains(config: TrainConfig, found: Sequence[str] = ()) -> tuple[list[Photo], list[Photo]]:
    """The pictures of A, below ``photos``, and of B, ``artworks`` and those below folders among them.

    Each is read once, so that what is wrong is known before the first step. ``found``: what the recipe has found wrong.

    Raises:
        TrainError: names everything that is wrong: settings that unpaired domains have no use for, folders without
            a picture, files that do not read, artworks smaller than a crop.
    """
    problems = [*found, *_misplaced(config)]
    a = _listed([config.photos], "photos", problems)
    b = _listed(config.artworks, "artworks", problems)
    with ThreadPoolExecutor() as pool:  # decoding takes the time, and holds no lock
        problems += filter(None, pool.map(lambda path: _wrong(path, "photos", 1), a))
        problems += filter(None, pool.map(lambda path: _wrong(path, "artworks", config.crop), b))
    if problems:
        raise TrainError(
            f"the two domains of {config.recipe} have {len(problems)} problem(s):{listed(problems)}\n"
            "Do this: mend them or take the files away; nothing was trained."
        )
    return a, b


def _misplaced(config: TrainConfig) -> list[str]:
    """Settings of other recipes that would be without effect here."""
    found = []
    if config.styles:
        found.append(f"styles: got {', '.join(config.styles)}, expected none: {config.recipe} learns one look")
    if config.pictures:
        found.append(f"pictures: got {', '.join(config.pictures)}, expected none: {config.recipe} has no teacher")
    return found


def _listed(sources: Sequence[str], setting: str, problems: list[str]) -> list[Photo]:
    """Files, and those below folders, in this order; what holds none goes to ``problems``."""
    found: list[Photo] = []
    for source in map(Path, sources):
        if source.is_file() and source.suffix.lower() not in ARCHIVES:
            found.append(source)
            continue
        try:
            found += list_photos(source)
        except TrainError as error:
            what = str(error).splitlines()[0]
            if what.startswith("got: no picture below"):
                what = "a folder without a picture" if source.is_dir() else "where nothing is"
            problems.append(f"{setting}: got {source}, {what}, expected pictures (.jpg, .png, .webp, ...)")
    return list(dict.fromkeys(found))


def _wrong(path: Photo, setting: str, least: int) -> str | None:
    """What makes the file useless as training data, or None."""
    picture = read_picture(path)
    if picture is None:
        return f"{setting}: got {path}, which does not read as a picture"
    height, width = picture.shape[:2]
    if min(height, width) < least:
        return f"{setting}: got {path} of {width}x{height} pixels, expected at least {least}, the training crop"
    return None


class UnpairedCrops(Dataset[Item]):
    """Item i: a crop of a picture of A, and one of B that has nothing to do with it; RGB (3, crop, crop), 0-1.

    Which pictures, where, and how large depends on the seed and on i alone. The third entry of an item has the numbers
    of the two pictures; the fourth, files passed over, is 0, as ``Crops`` has it.
    """

    def __init__(self, a: Sequence[Photo], b: Sequence[Photo], crop: int, artwork_size: int, seed: int) -> None:
        self.a, self.b = a, b
        self.crop, self.artwork_size, self.seed = crop, artwork_size, seed

    def __getitem__(self, index: int) -> Item:
        random = np.random.default_rng([self.seed, index])
        in_a = random.integers(len(self.a))
        photo = _read(self.a[in_a])
        photo = scaled(photo, self.crop * random.uniform(1.0, 1.6))
        in_b = random.integers(len(self.b))
        artwork = _kept(self.b[in_b], round(self.artwork_size * SCALES))
        # Enlarged it would be blurred, and blur is no part of a look.
        size = min(self.artwork_size * SCALES ** random.uniform(-1, 1), min(artwork.shape[:2]))
        artwork = scaled(artwork, max(size, self.crop))
        a, b = (tensor_from_rgb(random_crop(picture, self.crop, random)) for picture in (photo, artwork))
        return a, b, torch.tensor([in_a, in_b]), 0

    def __getitems__(self, indices: Sequence[int]) -> list[Item] | TrainError:
        """The items of a batch; an error is handed over, as in ``Crops``."""
        try:
            return [self[index] for index in indices]
        except TrainError as error:
            return error


def unpaired_batches(
    config: TrainConfig, a: Sequence[Photo], b: Sequence[Photo], first_step: int, rank: int, world: int
) -> Iterator[Batch]:
    """Endless batches of crops: ``a`` and ``b``, RGB float (N, 3, crop, crop), 0-1; this process' share."""
    crops = UnpairedCrops(a, b, config.crop, config.artwork_size, config.seed)
    found = crop_batches(
        crops, first_step=first_step, batch=config.batch, rank=rank, world=world, workers=config.workers
    )
    for in_a, in_b, *_ in found:
        yield {"a": in_a, "b": in_b}


def whole_picture(path: Photo) -> Tensor:
    """RGB (3, H, W), 0-1, of a file that ``read_domains`` has read."""
    return tensor_from_rgb(_read(path))


def _read(path: Photo) -> Picture:
    picture = read_picture(path)
    if picture is None:
        raise TrainError(
            f"got: {path}, which read when the training began and no longer does; expected: files that stay.\n"
            "Do this: put it back, then run the same command again."
        )
    return picture


@lru_cache(maxsize=32)
def _kept(path: Photo, largest: int) -> Picture:
    """An artwork, its short side at most ``largest``: few scans are read again and again, and they are large."""
    picture = _read(path)
    return scaled(picture, largest) if min(picture.shape[:2]) > largest else picture


def players_of(config: TrainConfig, generators: nn.Module, critics: nn.Module) -> dict[str, Player]:
    """The two players: Muon for the generators, for the critics Adam with the momentum of CycleGAN and UNIT.

    With the papers' Adam for all, a run of minutes ends before pictures come back from the other domain.
    """
    rate, critic_rate = config.learning_rate, config.critic_learning_rate
    adam = torch.optim.Adam(critics.parameters(), critic_rate, betas=(0.5, 0.999))
    return {
        "generator": Player(generators, Muon(parameter_groups(generators), rate), rate),
        "critic": Player(critics, adam, critic_rate),
    }
