"""Pairs of pictures with labels: a CSV beside its pictures, read and checked as a whole, and cut into crops."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from styletrainer.data.crops import Picture, read_picture, scaled, tensor_from_rgb
from styletrainer.errors import TrainError
from styletrainer.pairs.saliency import importance, salient_regions
from styletrainer.style_names import UNSAYABLE, is_style_name

COLUMNS = ("source", "target", "style", "similarity")
MASK = "mask"
_LEAST = 16  # pixels of a picture's shorter side: what the similarity score compares is larger than ten
_TESTED = 5  # sources from which on one can be spared for the test stage


@dataclass(frozen=True)
class Pair:
    """One row: a photo, the picture that it should become, in which style, and how much the two are to be trusted."""

    source: Path
    target: Path
    style: str
    similarity: float  # 0-1
    mask: Path | None = None  # grey picture of the source's size, white where the small objects are


def read_pairs(path: Path) -> list[Pair]:
    """The rows of a CSV with the columns source, target, style, similarity and, if wanted, mask.

    Pictures are found relative to the CSV's folder; source, target and mask have the same size.

    Raises:
        TrainError: everything that is wrong with the file and its pictures, in one text.
    """
    rows, problems = _rows(path)
    pairs = []
    seen: dict[tuple[str, ...], int] = {}
    sizes: dict[Path, tuple[int, ...] | None] = {}
    for line, row in rows:
        found = [*_problems_of_row(row), *_problems_of_pictures(row, path.parent, sizes)]
        first = seen.setdefault((row["source"], row["target"], row["style"]), line)
        if first != line:
            found.append(f"the same source, target and style as line {first}")
        problems += [f"line {line}: {problem}" for problem in found]
        if not found:
            pairs.append(_pair(row, path.parent))
    if not problems and not pairs:
        problems.append("no pair below the header")
    if problems:
        listed = "\n  ".join(problems)
        raise TrainError(
            f"{path} has {len(problems)} problem(s):\n  {listed}\nexpected: a CSV in UTF-8 with the columns "
            f"{','.join(COLUMNS)}[,{MASK}], pictures relative to its folder, similarity 0-1."
        )
    return pairs


def styles_of(pairs: Sequence[Pair]) -> list[str]:
    """Names of the styles, sorted."""
    return sorted({pair.style for pair in pairs})


def held_out(pairs: Sequence[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from and pairs to test with: a ``share`` of the sources, spread, with all of their pairs.

    One at least where there are five. A source whose absence would leave a style without a pair stays.
    """
    sources = list(dict.fromkeys(pair.source for pair in pairs))
    count = max(int(share * len(sources)), 1 if share and len(sources) >= _TESTED else 0)
    learned, kept = list(pairs), []
    for source in sources[:: len(sources) // count][:count] if count else ():
        rest = [pair for pair in learned if pair.source != source]
        if styles_of(rest) == styles_of(pairs):
            kept += [pair for pair in learned if pair.source == source]
            learned = rest
    return learned, kept


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Rows with the line that each ends on, and what is wrong with the file as a whole."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # as spreadsheets write it, too
    except OSError as error:
        return [], [f"does not read ({error})"]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return [], [f"line {line}: byte {error.object[error.start]:#04x} is not UTF-8 (save the file as UTF-8)"]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        problems = list(_problems_of_header(header))
        for row in reader if not problems else ():
            if not row:  # an empty line
                continue
            if len(row) != len(header):
                problems.append(f"line {reader.line_num}: {len(row)} fields, expected {len(header)}")
                continue
            rows.append((reader.line_num, {k: v.strip() for k, v in zip(header, row, strict=True)}))
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: not CSV ({error})")
    return rows, problems


def _problems_of_header(header: Sequence[str]) -> Iterator[str]:
    if missing := [name for name in COLUMNS if name not in header]:
        semicolons = " (separate fields by commas, not semicolons)" if any(";" in name for name in header) else ""
        yield f"line 1: lacks the column(s) {', '.join(missing)}; got {', '.join(header) or 'nothing'}{semicolons}"
    if unknown := [name for name in header if name not in (*COLUMNS, MASK)]:
        yield f"line 1: unknown column(s) {', '.join(unknown)}"
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        yield f"line 1: column(s) {', '.join(twice)} more than once"


def _problems_of_row(row: dict[str, str]) -> list[str]:
    """What is wrong with the labels."""
    found = [f"{name} is empty" for name in ("source", "target", "style") if not row[name]]
    if not is_style_name(row["style"]):
        found.append(f"style {row['style']!r}, expected a name without {UNSAYABLE} (the command line uses those)")
    try:
        similarity = float(row["similarity"])
    except ValueError:
        found.append(f"similarity {row['similarity']!r} is not a number")
    else:
        if not (math.isfinite(similarity) and 0 <= similarity <= 1):
            found.append(f"similarity {row['similarity']}, expected 0 to 1")
    return found


def _problems_of_pictures(
    row: dict[str, str], folder: Path, sizes: dict[Path, tuple[int, ...] | None]
) -> Iterator[str]:
    """What is wrong with the pictures; each file is read once, its size kept in ``sizes``."""
    named = {name: folder / row[name] for name in ("source", "target", MASK) if row.get(name)}
    for path in named.values():
        if path not in sizes:
            picture = read_picture(path)
            sizes[path] = None if picture is None else picture.shape[:2]
    for name, path in named.items():
        if sizes[path] is None:
            what = "does not read as a picture" if os.path.isfile(path) else "is not there"
            yield f"{name} {row[name]} {what}"
    for name, path in named.items():
        if (size := sizes[path]) and min(size) < _LEAST:
            yield f"{name} {row[name]}: {size[1]}x{size[0]} pixels, expected {_LEAST} or more a side"
    expected = sizes[named["source"]] if "source" in named else None
    for name, path in named.items():
        size = sizes[path]
        if size and expected and size != expected:
            yield f"{name} {row[name]}: {size[1]}x{size[0]} pixels, expected {expected[1]}x{expected[0]} as its source"


def _pair(row: dict[str, str], folder: Path) -> Pair:
    mask = folder / row[MASK] if row.get(MASK) else None
    return Pair(folder / row["source"], folder / row["target"], row["style"], float(row["similarity"]), mask)


PairItem = tuple[Tensor, Tensor, Tensor, int]


class PairCrops(Dataset[PairItem]):
    """Item i: the same random crop of a pair's source, target and map of importance, and the pair's number.

    Pictures RGB float (3, crop, crop), 0-1; the map float (1, crop, crop), 1 where nothing is small and salient.
    No context around them, as photos without a target need: output and target end at the same edge, and a frame painted
    there would be a difference.
    """

    def __init__(self, pairs: Sequence[Pair], crop: int, seed: int) -> None:
        self.pairs, self.crop, self.seed = pairs, crop, seed

    def __getitem__(self, index: int) -> PairItem:
        random = np.random.default_rng([self.seed, index])
        number = int(random.integers(len(self.pairs)))
        pair = self.pairs[number]
        source, target = picture_of_pair(pair.source), picture_of_pair(pair.target)
        mask = _mask(pair, source)
        # At the size that the target was painted in, or smaller by a third: strokes of several sizes.
        short = min(source.shape[:2])
        side = max(self.crop, round(short * random.uniform(0.7, 1.0)))
        source, target = scaled(source, side), scaled(target, side)
        size = (source.shape[1], source.shape[0])
        weights = importance(np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.float32))
        y, x = (int(random.integers(length - self.crop + 1)) for length in source.shape[:2])
        window = (slice(y, y + self.crop), slice(x, x + self.crop))
        mirror = slice(None, None, -1 if random.random() < 0.5 else 1)
        source, target = source[window][:, mirror], target[window][:, mirror]
        weights = np.ascontiguousarray(weights[window][:, mirror])
        return tensor_from_rgb(source), tensor_from_rgb(target), torch.from_numpy(weights)[None], number

    def __getitems__(self, indices: Sequence[int]) -> list[PairItem] | TrainError:
        """The items of a batch; an error is handed over, as ``Crops`` does."""
        try:
            return [self[index] for index in indices]
        except TrainError as error:
            return error


def picture_of_pair(path: Path) -> Picture:
    """RGB uint8 (H, W, 3) of a picture that ``read_pairs`` has checked."""
    picture = read_picture(path)
    if picture is None:  # it was, when the run began
        raise TrainError(f"got: {path}, which no longer reads as a picture; expected: the pairs of the run's start.")
    return picture


def _mask(pair: Pair, source: Picture) -> NDArray[np.float32]:
    """Where small objects are, 0-1 (H, W): the pair's own mask, else what is salient."""
    if pair.mask is None:
        return salient_regions(source)
    return np.asarray(picture_of_pair(pair.mask).mean(2) / 255, np.float32)
