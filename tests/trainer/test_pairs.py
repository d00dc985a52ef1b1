"""Pairs: the CSV and everything that can be wrong with it, saliency, and crops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pair_files import HEADER, make_pairs

from styletrainer.data.crops import item_batches, read_picture
from styletrainer.errors import TrainError
from styletrainer.pairs.dataset import PairCrops, held_out, read_pairs, styles_of
from styletrainer.pairs.saliency import importance, salient_regions, spectral_residual

ROW = "sources/0.png,targets/0-red.png,red,1"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return make_pairs(tmp_path)


def wrong(table: Path, *lines: str) -> str:
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(TrainError) as error:
        read_pairs(table)
    return str(error.value)


def test_rows_become_pairs(table: Path) -> None:
    pairs = read_pairs(table)
    assert len(pairs) == 8 and styles_of(pairs) == ["blue", "red"]
    assert pairs[2].source == table.parent / "sources/1.png" and pairs[2].style == "red"
    assert pairs[2].similarity == 0.9 and pairs[2].mask is None


def test_spreadsheets_csv_reads_too(table: Path) -> None:
    """Byte-order mark, CRLF, quotes, spaces, columns in another order, an empty line, an empty mask."""
    mask = np.zeros((80, 96), np.uint8)
    cv2.imwrite(str(table.parent / "m.png"), mask)
    text = 'Style, similarity,target,source,mask\r\n"röt", 0.5,targets/0-red.png,"sources/0.png",m.png\r\n\r\n'
    text += "blau,1,targets/1-blue.png,sources/1.png,\r\n"
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    first, second = read_pairs(table)
    assert (first.style, first.similarity, first.mask) == ("röt", 0.5, table.parent / "m.png")
    assert (second.style, second.mask) == ("blau", None)


def test_everything_that_is_wrong_is_told_at_once(table: Path) -> None:
    folder = table.parent
    (folder / "broken.png").write_bytes((folder / "sources/0.png").read_bytes()[:60])
    cv2.imwrite(str(folder / "small.png"), np.zeros((40, 50, 3), np.uint8))
    cv2.imwrite(str(folder / "tiny.png"), np.zeros((15, 80, 3), np.uint8))
    text = wrong(
        table,
        HEADER + ",mask",
        ROW + ",",
        "sources/none.png,targets/0-red.png,red,1,",
        "broken.png,targets/0-red.png,red,1,",
        "sources/1.png,small.png,red,1,",
        "sources/1.png,targets/1-red.png,red,1.5,",
        "sources/2.png,targets/2-red.png,red,high,",
        "sources/3.png,targets/3-red.png,red,nan,",
        ROW + ",",
        "sources/1.png,targets/1-red.png, ,1,",
        "sources/1.png,targets/1-red.png",
        "sources/2.png,targets/2-blue.png,blue,1,small.png",
        "sources/1.png,targets/1-blue.png,b=c,1,",
        "tiny.png,tiny.png,red,1,",
    )
    for expected in (
        "has 13 problem(s)",
        "line 3: source sources/none.png is not there",
        "line 4: source broken.png does not read as a picture",
        "line 5: target small.png: 50x40 pixels, expected 96x80 as its source",
        "line 6: similarity 1.5, expected 0 to 1",
        "line 7: similarity 'high' is not a number",
        "line 8: similarity nan, expected 0 to 1",
        "line 9: the same source, target and style as line 2",
        "line 10: style is empty",
        "line 11: 2 fields, expected 5",
        "line 12: mask small.png: 50x40 pixels",
        "line 13: style 'b=c', expected a name without",
        "line 14: source tiny.png: 80x15 pixels, expected 16 or more a side",
        "expected: a CSV in UTF-8 with the columns source,target,style,similarity[,mask]",
    ):
        assert expected in text, text


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["source,style,similarity", "a,b,1"], r"line 1: lacks the column\(s\) target"),
        ([HEADER + ",colour", ROW + ",x"], r"line 1: unknown column\(s\) colour"),
        ([HEADER + ",style", ROW + ",x"], r"column\(s\) style more than once"),
        ([HEADER], "no pair below the header"),
        ([""], "lacks the column"),
        ([HEADER.replace(",", ";")], "separate fields by commas, not semicolons"),
        ([HEADER, ROW.replace("sources/0.png", "x" * 300)], "line 2: source x+ is not there"),
        ([HEADER, ROW.replace("sources/0.png", "a\0b")], "line 2: source a.b is not there"),
        ([HEADER, 'sources/0.png,"targets/0-red.png,red,1'], "not CSV"),
    ],
)
def test_header_and_form(table: Path, lines: list[str], expected: str) -> None:
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(TrainError, match=expected):
        read_pairs(table)


def test_other_encodings_and_no_file(table: Path) -> None:
    table.write_bytes((HEADER + "\n" + ROW.replace("red,1", "röt,1") + "\n").encode("latin-1"))
    with pytest.raises(TrainError, match=r"line 2: byte 0xf6 is not UTF-8"):
        read_pairs(table)
    with pytest.raises(TrainError, match="does not read"):
        read_pairs(table.parent / "none.csv")


def test_sources_are_kept_for_the_test_with_all_of_their_pairs(table: Path) -> None:
    pairs = read_pairs(table)
    learned, kept = held_out(pairs, 0.5)
    assert {p.source for p in learned}.isdisjoint({p.source for p in kept})
    assert len(kept) == 4 and len(learned) == 4
    assert held_out(pairs, 0.1) == (pairs, []) == held_out(pairs, 0)  # of four sources none can be spared
    more = [replace(p, source=Path(f"{n}.png")) for n, p in enumerate([*pairs, *pairs])]
    assert len(held_out(more[:6], 0.1)[1]) == 1
    alone = [pairs[0], *[p for p in pairs[2:] if p.style == "blue"]]  # red has one pair, of the first source
    assert pairs[0] in held_out(alone, 0.9)[0] and styles_of(held_out(alone, 0.9)[0]) == ["blue", "red"]


def test_spectral_residual_finds_the_odd_thing_out() -> None:
    """A small disc on stripes: the stripes are what the spectrum expects, the disc is not."""
    rows = np.mgrid[:128, :128][0]
    picture = np.repeat((120 + 60 * np.sin(rows / 3))[..., None], 3, 2).astype(np.uint8)
    cv2.circle(picture, (90, 40), 6, (255, 255, 255), -1)
    saliency = spectral_residual(picture)
    assert saliency.shape == (128, 128) and saliency.max() == pytest.approx(1, abs=0.1)
    y, x = np.unravel_index(saliency.argmax(), saliency.shape)
    assert abs(y - 40) <= 8 and abs(x - 90) <= 8
    assert salient_regions(picture)[40, 90] == 1 and salient_regions(picture).mean() < 0.2


def test_flat_picture_has_nothing_salient_that_is_not_finite() -> None:
    flat = np.full((50, 70, 3), 9, np.uint8)
    assert np.isfinite(spectral_residual(flat)).all() and np.isfinite(importance(salient_regions(flat))).all()


def test_importance_by_hand() -> None:
    mask = np.zeros((128, 128), np.float32)
    mask[:64, :64] = 1  # a quarter: 1 + 2
    mask[96:112, 96:112] = 1  # a sixty-fourth: 1 + 8
    mask[96, 0] = 1  # one pixel: as much as a thousandth of the picture
    found = importance(mask)
    assert (found[0, 0], found[100, 100], found[96, 0], found[80, 10]) == pytest.approx((3, 9, 1 + 1000**0.5, 1))


def test_crops_show_the_same_place_of_source_target_and_mask(table: Path) -> None:
    """A target that is its source, and a mask over what is bright in it."""
    folder = table.parent
    photo = read_picture(folder / "sources/0.png")
    assert photo is not None
    cv2.imwrite(str(folder / "mask.png"), (255 * (photo.mean(2) > 128)).astype(np.uint8))
    table.write_text(f"{HEADER},mask\nsources/0.png,sources/0.png,red,1,mask.png\n")
    crops = PairCrops(read_pairs(table), 64, seed=0)
    for index in range(8):
        source, target, weights, number = crops[index]
        assert torch.equal(source, target) and source.shape == (3, 64, 64) and number == 0
        assert weights.shape == (1, 64, 64) and weights.min() >= 1
        bright = source.mean(0) > 0.5
        assert ((weights[0] > 1.2) == bright).float().mean() > 0.9


def test_item_depends_on_seed_and_index_alone_and_processes_share_the_batch(table: Path) -> None:
    crops = PairCrops(read_pairs(table), 64, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(crops[5][:3], crops[5][:3], strict=True))
    assert not torch.equal(crops[5][0], crops[6][0])
    whole = next(item_batches(crops, first_step=2, batch=4, rank=0, world=1, workers=0))
    parts = [next(item_batches(crops, first_step=2, batch=2, rank=r, world=2, workers=0)) for r in range(2)]
    for ours, theirs in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(ours, torch.cat(theirs))


def test_picture_that_is_gone_in_mid_run(table: Path) -> None:
    pairs = read_pairs(table)
    for pair in pairs:
        pair.target.unlink()
    with pytest.raises(TrainError, match="no longer reads"):
        next(item_batches(PairCrops(pairs, 64, 0), first_step=0, batch=1, rank=0, world=1, workers=0))
