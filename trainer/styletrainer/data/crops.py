"""Photos and artworks as training crops.

Item ``i`` depends on the seed and on ``i`` alone, so a resumed run, or the same global batch cut over
several processes, sees exactly the same pictures. Crops are RGB float (3, crop, crop), 0-1; photos have
CONTEXT more pixels on every side, or as many as the recipe wants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from styletrainer.data.photos import Photo
from styletrainer.errors import TrainError

Picture = NDArray[np.uint8]

# Pixels around a photo crop that the generator sees and the losses do not. Without them a generator learns
# where a picture ends, and paints a frame there to please the zero padding of the perceptual network.
CONTEXT = 32


def read_picture(path: Photo) -> Picture | None:
    """RGB uint8 (H, W, 3), or None where the file does not decode."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, ValueError, cv2.error):  # ValueError: a name with a null byte
        return None
    return None if bgr is None else np.ascontiguousarray(bgr[:, :, ::-1])


def read_artwork(path: Photo, short_side: int, crop: int) -> Picture:
    """The artwork with its short side scaled to ``short_side``; refuses one too small to have strokes."""
    picture = read_picture(path)
    if picture is None:
        raise TrainError(f"got: {path}, which does not read as a picture; expected: a JPEG, PNG or WebP artwork.")
    if min(picture.shape[:2]) < crop:
        height, width = picture.shape[:2]
        raise TrainError(
            f"got: artwork {path} of {width}x{height} pixels; expected: at least {crop} on the short side, "
            f"the training crop.\nDo this: use a larger scan."
        )
    return scaled(picture, max(short_side, crop))


def tensor_from_rgb(picture: Picture) -> Tensor:
    """RGB uint8 (H, W, 3) -> float (3, H, W), 0-1."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 255


def rgb_from_tensor(picture: Tensor) -> Picture:
    """RGB float (3, H, W), about 0-1 -> uint8 (H, W, 3)."""
    rounded = (picture.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    rgb: Picture = rounded.permute(1, 2, 0).cpu().numpy()
    return rgb


def scaled(picture: Picture, short_side: float) -> Picture:
    """The picture with its short side scaled to ``short_side`` pixels."""
    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=kind), dtype=np.uint8)


def without_context(picture: Tensor, context: int = CONTEXT) -> Tensor:
    """The inner part of a picture (N, C, H, W) whose outer ``context`` pixels are for the generator's eyes only."""
    return picture[:, :, context:-context, context:-context]


def sample_photos(photos: Sequence[Photo], count: int = 4, side: int = 256) -> list[Tensor]:
    """The same few photos at every tick: centre squares (3, side, side), spread over the folder."""
    samples: list[Tensor] = []
    spread = photos[:: max(len(photos) // count, 1)]
    for path in dict.fromkeys([*spread, *photos]):
        picture = read_picture(path) if len(samples) < count else None
        if picture is not None:
            picture = scaled(picture, side)
            y, x = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
            samples.append(tensor_from_rgb(picture[y : y + side, x : x + side]))
    return samples


def random_crop(picture: Picture, side: int, random: np.random.Generator) -> Picture:
    """A square of RGB uint8 (side, side, 3) from anywhere in the picture, half of them mirrored."""
    y = random.integers(picture.shape[0] - side + 1)
    x = random.integers(picture.shape[1] - side + 1)
    crop = picture[y : y + side, x : x + side]
    return np.ascontiguousarray(crop[:, ::-1] if random.random() < 0.5 else crop)


Item = tuple[Tensor, Tensor, Tensor, int]


class Crops(Dataset[Item]):
    """Item i: a photo crop, an artwork crop, the teacher's picture of the photo crop, unreadable photos passed over.

    ``artworks`` and ``pictures`` have one list a style; all ``batch`` items of a step show the style that has
    its turn. Without ``pictures`` an item's picture is empty. Photos and pictures have ``context`` more pixels on every
    side; beyond CONTEXT these may lie outside of the photo, and mirror it.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        artworks: Sequence[Sequence[Picture]],
        crop: int,
        batch: int,
        seed: int,
        pictures: Sequence[Sequence[Photo]] = (),
        context: int = CONTEXT,
    ) -> None:
        self.photos, self.artworks, self.pictures = photos, artworks, pictures
        self.crop, self.batch, self.seed, self.context = crop, batch, seed, context

    def __getitem__(self, index: int) -> Item:
        random = np.random.default_rng([self.seed, index])
        turn = index // self.batch % len(self.artworks)
        pair, skipped = self._photo(random, self.pictures[turn] if self.pictures else None)
        photo = tensor_from_rgb(pair[:, :, :3])
        if not self.pictures:
            # Light of a room at night to that of a window: webcams see both.
            photo = photo ** float(np.exp(random.uniform(-0.3, 0.4)))
        picture = tensor_from_rgb(pair[:, :, 3:])
        of_style = self.artworks[turn]
        artwork = of_style[random.integers(len(of_style))]
        real = scaled(artwork, max(min(artwork.shape[:2]) * random.uniform(0.9, 1.15), self.crop))
        return photo, tensor_from_rgb(random_crop(real, self.crop, random)), picture, skipped

    def __getitems__(self, indices: Sequence[int]) -> list[Item] | TrainError:
        """The items of a batch, as DataLoader asks for them.

        An error is handed over: raised in a worker it would reach the user as a traceback.
        """
        try:
            return [self[index] for index in indices]
        except TrainError as error:
            return error

    def _photo(self, random: np.random.Generator, pictures: Sequence[Photo] | None) -> tuple[Picture, int]:
        """A crop of a photo (H, W, 3), or of it and its picture (H, W, 6), and how many were unreadable."""
        inside = self.crop + 2 * CONTEXT
        for skipped in range(64):
            index = random.integers(len(self.photos))
            photo = read_picture(self.photos[index])
            if photo is None:
                continue
            if pictures is None:
                return self._cut(scaled(photo, inside * random.uniform(1.0, 1.6)), random), skipped
            picture = read_picture(pictures[index])
            if picture is not None and picture.shape != photo.shape:
                raise TrainError(
                    f"got: {pictures[index]}, {picture.shape[1]}x{picture.shape[0]}; expected: {photo.shape[1]}x"
                    f"{photo.shape[0]}, the size of its photo {self.photos[index].name}."
                )
            if picture is not None:
                # At the size that it was painted in, so that strokes stay sharp.
                pair = np.dstack([photo, picture])
                return self._cut(scaled(pair, max(inside, min(photo.shape[:2]))), random), skipped
        raise TrainError(
            "got: 64 unreadable photos in a row; expected: photographs.\nDo this: check the files below --photos."
        )

    def _cut(self, picture: Picture, random: np.random.Generator) -> Picture:
        beyond = self.context - CONTEXT
        wide = np.pad(picture, ((beyond, beyond), (beyond, beyond), (0, 0)), mode="reflect")
        return random_crop(wide, self.crop + 2 * self.context, random)


class _Slice(Sampler[int]):
    """This process' items of every global batch, from ``first_step`` on, for ever."""

    def __init__(self, first_step: int, batch: int, rank: int, world: int) -> None:
        self.first_step, self.batch, self.rank, self.world = first_step, batch, rank, world

    def __iter__(self) -> Iterator[int]:
        step = self.first_step
        while True:
            start = (step * self.world + self.rank) * self.batch
            yield from range(start, start + self.batch)
            step += 1


def crop_batches(
    crops: Dataset[Item], *, first_step: int, batch: int, rank: int, world: int, workers: int
) -> Iterator[Item]:
    """Endless batches (photos, artworks, pictures, skipped) from ``first_step`` on."""
    found = item_batches(crops, first_step=first_step, batch=batch, rank=rank, world=world, workers=workers)
    for photos, artworks, pictures, skipped in found:
        yield photos, artworks, pictures, int(skipped.sum())


def item_batches(
    items: Dataset[Any], *, first_step: int, batch: int, rank: int, world: int, workers: int
) -> Iterator[Any]:
    """Endless collated batches of ``items`` from ``first_step`` on: this process' share of every global batch.

    ``items`` hand over an error of theirs as ``Crops.__getitems__`` does; it is raised here.
    """
    loader: DataLoader[Any] = DataLoader(
        items,
        batch_size=batch,
        sampler=_Slice(first_step, batch, rank, world),
        collate_fn=_collated,
        num_workers=workers,
        # One thread a worker: a worker's pools would fight the training's for the same cores.
        worker_init_fn=_one_thread if workers else None,
    )
    for found in loader:
        if isinstance(found, TrainError):
            raise found
        yield found


def _collated(items: list[Any] | TrainError) -> Any:
    return items if isinstance(items, TrainError) else default_collate(items)


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
