"""A teacher's pictures: which file belongs to which photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from styletrainer.data import read_picture
from styletrainer.errors import TrainError
from styletrainer.photos import Photo, list_photos, place


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
    return kept, [[pictures[photo] for photo in kept] for pictures in found]


def _pictures_of(photos: Sequence[Photo], of: Path, folder: Path) -> dict[Photo, Photo]:
    """The file in ``folder`` for every photo that has one: the same place and stem, any suffix."""
    by_place = {_place(path, folder): path for path in list_photos(folder)}
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
