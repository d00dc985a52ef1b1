"""A photo and a picture of the style that it shall have, item by item: artworks, photos, drawn textures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from styletrainer.data.crops import (
    CONTEXT,
    Crops,
    Item,
    Picture,
    read_artwork,
    read_picture,
    scaled,
    tensor_from_rgb,
)
from styletrainer.data.photos import Photo, list_photos
from styletrainer.data.textures import draw_texture, recolour
from styletrainer.errors import TrainError

_WHOLE = 16  # pictures of a folder that its code is the mean of
_KEPT = 64  # pictures of folders that are kept in memory; more are read again


class Artworks:
    """The styles to learn: each a picture, or a folder of pictures that is searched in depth.

    Raises:
        TrainError: every picture that does not read or is too small, and every folder without pictures, in one text.
    """

    def __init__(self, entries: Sequence[str], short_side: int, least: int) -> None:
        self.short_side, self.least = short_side, least
        self.styles: list[list[Photo]] = []
        self.wholes: list[list[Picture]] = []  # of each style some pictures that read, kept: its code is their mean
        self.kept: dict[Photo, Picture] = {}
        problems: list[str] = []
        for entry in map(Path, entries):
            try:
                if entry.is_dir():
                    paths = list_photos(entry, "put artworks there, or name their files.")
                    self.wholes.append(self._some(entry, paths))
                    self.styles.append(paths)
                else:
                    self.kept[entry] = read_artwork(entry, short_side, least)
                    self.wholes.append([self.kept[entry]])
                    self.styles.append([entry])
            except TrainError as error:
                problems.append(str(error))
        if problems:
            raise TrainError("\n".join(problems))

    def picture(self, path: Photo) -> Picture | None:
        """RGB uint8 (H, W, 3) with the short side of training; None where a folder's picture does not read or fit."""
        if path in self.kept:
            return self.kept[path]
        picture = read_picture(path)
        if picture is None or min(picture.shape[:2]) < self.least:
            return None
        picture = scaled(picture, max(self.short_side, self.least))
        if len(self.kept) < _KEPT:
            self.kept[path] = picture
        return picture

    def whole(self, style: int) -> list[Tensor]:
        """Whole pictures of a style, up to 16 spread over its folder: RGB (3, H, W), 0-1."""
        return [tensor_from_rgb(picture) for picture in self.wholes[style]]

    def _some(self, folder: Path, paths: Sequence[Photo]) -> list[Picture]:
        """Up to 16 pictures of a folder, spread over it as far as they read."""
        spread = paths[:: max(len(paths) // _WHOLE, 1)][:_WHOLE]
        found: list[Picture] = []
        for path in dict.fromkeys([*spread, *paths]):
            picture = self.picture(path) if len(found) < _WHOLE else None
            if picture is not None:
                found.append(picture)
        if not found:
            raise TrainError(
                f"got: {folder}, where none of {len(paths)} pictures reads with {self.least} pixels or more on the "
                "short side; expected: artworks.\nDo this: use larger scans."
            )
        return found


class StylePairs(Dataset[Item]):
    """Item i: a photo crop, a style picture, another crop of the same style picture, unreadable files passed over.

    The first two have CONTEXT more pixels on every side. A style picture is a crop of an artwork, or for a ``photos``
    share of the items a photo, for a ``drawn`` share a texture; a ``recoloured`` share of all has other colours.
    """

    def __init__(
        self,
        crops: Crops,
        artworks: Artworks,
        *,
        photos: float,
        drawn: float,
        recoloured: float,
    ) -> None:
        self.crops, self.artworks = crops, artworks
        self.photos, self.drawn, self.recoloured = photos, drawn, recoloured

    def __getitem__(self, index: int) -> Item:
        photo, _, _, skipped = self.crops[index]
        random = np.random.default_rng([self.crops.seed, index, 1])
        picture, more_skipped = self._picture(index, random)
        crop = self.crops.crop
        style, other = self._crop(picture, crop + 2 * CONTEXT, random), self._crop(picture, crop, random)
        if random.random() < self.recoloured:
            state = random.integers(2**32)
            style, other = (recolour(x, np.random.default_rng(state)) for x in (style, other))
        turns, mirrored = random.integers(4), random.random() < 0.5
        turned = (np.rot90(x[:, ::-1] if mirrored else x, turns) for x in (style, other))
        style, other = (np.ascontiguousarray(x) for x in turned)
        return photo, tensor_from_rgb(style), tensor_from_rgb(other), skipped + more_skipped

    def __getitems__(self, indices: Sequence[int]) -> list[Item] | TrainError:
        """The items of a batch; an error is handed over, as ``Crops`` does."""
        try:
            return [self[index] for index in indices]
        except TrainError as error:
            return error

    def _picture(self, index: int, random: np.random.Generator) -> tuple[Picture, int]:
        """A style picture, its short side at least the largest crop's, and how many files did not read."""
        side = self.crops.crop + 2 * CONTEXT
        kind = random.random()
        if kind < self.drawn:
            return draw_texture(side + CONTEXT, random), 0
        of_photos = kind < self.drawn + self.photos
        for skipped in range(64):
            if of_photos:
                paths: Sequence[Photo] = self.crops.photos
                picture = read_picture(paths[random.integers(len(paths))])
            else:
                paths = self.artworks.styles[random.integers(len(self.artworks.styles))]
                picture = self.artworks.picture(paths[random.integers(len(paths))])
            if picture is not None:
                size = self.artworks.short_side * random.uniform(0.75, 1.35)
                return scaled(picture, max(size, side)), skipped
        raise TrainError(
            f"got: 64 unreadable style pictures in a row at item {index}; expected: artworks of at least "
            f"{self.artworks.least} pixels on the short side.\nDo this: check the folders of artworks, and --photos."
        )

    @staticmethod
    def _crop(picture: Picture, side: int, random: np.random.Generator) -> Picture:
        y, x = (int(random.integers(size - side + 1)) for size in picture.shape[:2])
        return picture[y : y + side, x : x + side]
