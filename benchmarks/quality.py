"""How a style looks, in figures: grid, border, fp16 against fp32; and a sheet to look at.

    python benchmarks/quality.py --photos DIR --json benchmarks/results/quality.json --sheet sheet.png

- grid: luma minus its Gaussian blur (sigma 3) is the detail; the mean of the detail over all cells of p x p pixels is a
  pattern; its standard deviation over the detail's, worst of p = 2, 4, 8, median over photos. Photographs
  have about 0.02, paintings 0.01.
- border: standard deviation of the detail in the outer 16 pixels over that of the inside, median over photos, as a
  multiple of the same figure of the photo: 1 is no frame.
- fp16: largest and mean difference of the fp16 model, of 255.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from styleexport.fp16_from_onnx import fp16_from_onnx
from styleexport.verify import compare, run_frames
from stylesdk.frames import Frame
from stylesdk.latency import machine_card
from stylesdk.styles import resolve
from styletrainer.data import list_photos

Plane = NDArray[np.float32]
PERIODS = (2, 4, 8)
BORDER = 16


def detail(frame: Frame) -> Plane:
    """Luma of a BGR uint8 frame minus its Gaussian blur, float32 (H, W)."""
    luma = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return np.asarray(luma - cv2.GaussianBlur(luma, (0, 0), 3), dtype=np.float32)


def grid(frame: Frame) -> float:
    """Share of the detail that repeats in every cell, worst of the periods."""
    plane = detail(frame)
    worst = 0.0
    for period in PERIODS:
        height, width = (side // period for side in plane.shape)
        cells = plane[: height * period, : width * period].reshape(height, period, width, period)
        worst = max(worst, float(cells.mean((0, 2)).std() / (plane.std() + 1e-6)))
    return worst


def border(frame: Frame) -> float:
    """Detail of the outer pixels over that of the inside."""
    plane = detail(frame)
    inside = np.zeros(plane.shape, bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return float(plane[~inside].std() / (plane[inside].std() + 1e-6))


def sheet(photos: list[Frame], styled: list[Frame], columns: int = 3) -> Frame:
    """Photo above its styled picture, ``columns`` a row, at full size."""
    height, width = photos[0].shape[:2]
    pairs = [
        cv2.vconcat([cv2.resize(picture, (width, height)) for picture in pair])
        for pair in zip(photos, styled, strict=True)
    ]
    pairs += [np.full_like(pairs[0], 255)] * (-len(pairs) % columns)
    rows = [cv2.hconcat(pairs[i : i + columns]) for i in range(0, len(pairs), columns)]
    return np.asarray(cv2.vconcat(rows), dtype=np.uint8)


def main(
    photos: Annotated[Path, typer.Option(help="Folder of photographs, best ones that training never saw.")],
    styles: Annotated[list[str] | None, typer.Argument(help="Bundled styles or ONNX files.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Photos, spread over the folder.")] = 20,
    output: Annotated[Path | None, typer.Option("--json")] = None,
    sheet_path: Annotated[Path | None, typer.Option("--sheet", help="PNG of photos and styled pictures.")] = None,
) -> None:
    """Print the figures of every style."""
    paths = list_photos(photos)
    frames: list[Frame] = [
        np.asarray(picture, dtype=np.uint8)
        for path in paths[:: max(len(paths) // count, 1)][:count]
        if (picture := cv2.imread(str(path))) is not None
    ]
    report: dict[str, Any] = {"machine": machine_card(), "photos": len(frames), "styles": {}}
    report["photo_grid"] = float(np.median([grid(frame) for frame in frames]))
    console = Console()
    for style in styles or ["starry_night"]:
        data = resolve(style).read_bytes()
        styled = run_frames(data, [(frame, 1.0) for frame in frames])
        half = run_frames(fp16_from_onnx(data, style), [(frame, 1.0) for frame in frames])
        difference = compare(styled, half)
        ratios = [border(s) / border(f) for s, f in zip(styled, frames, strict=True)]
        report["styles"][style] = {
            "grid": float(np.median([grid(frame) for frame in styled])),
            "border": float(np.median(ratios)),
            "fp16_max": difference.max,
            "fp16_mean": difference.mean,
        }
        console.print(style, report["styles"][style])
        if sheet_path:
            cv2.imwrite(str(sheet_path), sheet(frames[:6], styled[:6]))
    if output:
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
