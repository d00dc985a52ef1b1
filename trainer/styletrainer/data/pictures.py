"""A teacher's pictures: which file belongs to which photo."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from styletrainer.data.crops import read_picture
from styletrainer.data.photos import Photo, list_photos, place
from styletrainer.errors import TrainError, listed

_ADVICE = "paint every photo: stylesdk run PHOTOS -s TEACHER.onnx -o PICTURES"


def photos_with_pictures(
    photos: Sequence[Photo], of: Path, folders: Sequence[Path]
) -> tuple[list[Photo], list[list[Photo]]]:
    """The photos below the folder ``of`` to train with, and a list of their pictures for each of ``folders``.

    A photo that does not read and has no picture is left out: `stylesdk run` passed over it too.
    """
    if not folders:
        return list(photos), []
    _refuse_shared(photos, of)
    found = [_pictures_of(photos, of, folder) for folder in folders]
    kept = [photo for photo in photos if all(photo in pictures for pictures in found)]
    if not kept:
        raise TrainError(
            f"got: {of}, where no photo has a picture in every folder of --pictures; expected: photographs that read.\n"
            "Do this: check the files below --photos."
        )
    in_order = [[pictures[photo] for photo in kept] for pictures in found]
    _refuse_other_sizes(kept, in_order)
    return kept, in_order


def _pictures_of(photos: Sequence[Photo], of: Path, folder: Path) -> dict[Photo, Photo]:
    """The file in ``folder`` for every photo that has one: the same place and stem, any suffix."""
    by_place = {_place(path, folder): path for path in list_photos(folder, _ADVICE)}
    found = {photo: by_place[_place(photo, of)] for photo in photos if _place(photo, of) in by_place}
    lacking = [photo for photo in photos if photo not in found]
    # One that reads is enough to refuse, so that another run's folder is not searched to its end.
    first = next((photo for photo in lacking if not found or read_picture(photo) is not None), None)
    if first is not None:
        raise TrainError(
            f"got: {folder}, which lacks pictures of {len(lacking)} of {len(photos)} photos, first "
            f"{_place(first, of)}; expected: one of every photo, in a folder like theirs.\n"
            "Do this: put all photos into one folder, then stylesdk run PHOTOS -s TEACHER.onnx -o PICTURES"
        )
    return found


def _refuse_other_sizes(photos: Sequence[Photo], pictures: Sequence[Sequence[Photo]]) -> None:
    """Every file is read once, so that this is told before the first step; what does not read training passes over."""
    with ThreadPoolExecutor() as pool:  # decoding takes the time, and holds no lock
        sizes = list(pool.map(_size, photos))
        wrong = [
            f"{picture} is {has[0]}x{has[1]}, its photo {photo.name} {wanted[0]}x{wanted[1]}"
            for of_style in pictures
            for photo, wanted, picture, has in zip(photos, sizes, of_style, pool.map(_size, of_style), strict=True)
            if wanted and has and wanted != has
        ]
    if wrong:
        raise TrainError(
            f"got: {len(wrong)} picture(s) of another size than their photos:{listed(wrong)}\n"
            "expected: equal sizes, so that both can be cut alike.\n"
            "Do this: make the pictures of these photos again: stylesdk run PHOTOS -s TEACHER.onnx -o PICTURES"
        )


def _size(path: Photo) -> tuple[int, int] | None:
    """Width and height, or None where the file does not read."""
    picture = read_picture(path)
    return None if picture is None else (picture.shape[1], picture.shape[0])


def _refuse_shared(photos: Sequence[Photo], of: Path) -> None:
    """Two photos that differ in their suffix alone would both have the same picture, which is of one of them."""
    seen: dict[PurePosixPath, Photo] = {}
    for photo in photos:
        other = seen.setdefault(_place(photo, of), photo)
        if other != photo:
            raise TrainError(
                f"got: photos {place(other, of)} and {place(photo, of)} in {of}; expected: names that differ "
                "in more than the suffix, by which a photo's picture is found.\n"
                "Do this: rename one of them, and make the pictures again."
            )


def _place(photo: Photo, folder: Path) -> PurePosixPath:
    return place(photo, folder).with_suffix("")
