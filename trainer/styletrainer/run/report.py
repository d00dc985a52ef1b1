"""What a run tells while it goes: progress line, stats.jsonl, TensorBoard, and a sheet of samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from styletrainer.data.crops import rgb_from_tensor, tensor_from_rgb
from styletrainer.errors import TrainError
from styletrainer.generators import with_margin
from styletrainer.run.checkpoint import write_atomically

STATS = "stats.jsonl"
ORIGIN = "origin.json"  # of a run that was made from a model file: its name, its licence, the runs that led to it


class Report:
    """Progress of one run, from ``first_step`` on; figures after it, of a life cut short, are dropped."""

    def __init__(self, run: Path, first_step: int, writes: bool, console: Console) -> None:
        self.run, self.console = run, console
        self.board: SummaryWriter | None = None
        if writes:  # one process of several
            self._drop_after(first_step)
            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[left]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self.task = self.progress.add_task("training", total=1.0, left="")

    def __enter__(self) -> Report:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()
        if self.board is not None:
            with suppress(OSError):  # a full disk has been told already
                self.board.close()

    def step(self, step: int, done: float, seconds_left: float) -> None:
        """Move the progress bar: ``done`` is the share of the run, 0-1."""
        minutes, seconds = divmod(int(seconds_left), 60)
        left = f"{minutes}:{seconds:02d} left"
        self.progress.update(self.task, description=f"step {step}", completed=done, left=left)

    def say(self, text: str) -> None:
        """One line above the progress bar."""
        self.console.print(text, highlight=False, markup=False)

    def tick(self, step: int, figures: dict[str, float]) -> None:
        """One status line, one line of stats.jsonl, one point a figure in TensorBoard."""
        assert self.board is not None
        try:
            with open(self.run / STATS, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **figures}) + "\n")
            for name, value in figures.items():
                self.board.add_scalar(name, value, step)
        except OSError as error:
            raise TrainError(f"got: {error} while writing to {self.run}; the last checkpoint is kept.") from error
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
        self.console.print(f"step {step}  {shown}", highlight=False)

    def _drop_after(self, step: int) -> None:
        path = self.run / STATS
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= step]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> float:
    """Step of a stats line; a line cut short by a kill counts as after everything."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")


@torch.no_grad()
def styled_rows(generator: nn.Module, photos: Sequence[Tensor], artworks: Sequence[Tensor]) -> list[list[Tensor]]:
    """Rows for a sheet: photos, and below them a row a style with its artwork at the left.

    Photos RGB (3, H, W), 0-1, of equal size; ``artworks`` one a style, of those that learn: the last ones.
    """
    batch = torch.stack(list(photos)).to(next(generator.parameters()).device)
    rows = [[torch.ones_like(photos[0]), *photos]]
    count = int(getattr(generator, "styles", 1))
    for number, artwork in enumerate(artworks, count - len(artworks)):
        styled = with_margin(generator, batch, torch.eye(count)[number].to(batch) if count > 1 else None)
        rows.append([thumbnail(artwork, photos[0].shape[1:]), *styled])
    return rows


def thumbnail(picture: Tensor, size: Sequence[int]) -> Tensor:
    """RGB (3, H, W), 0-1, squeezed to ``size`` (height, width)."""
    small = cv2.resize(rgb_from_tensor(picture), (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return tensor_from_rgb(np.asarray(small, np.uint8))


def write_sheet(path: Path, rows: Sequence[Sequence[Tensor]]) -> None:
    """Rows of pictures RGB (3, H, W), 0-1, all of one size, as one PNG."""
    sheet = np.vstack([np.hstack([rgb_from_tensor(picture) for picture in row]) for row in rows])
    ok, png = cv2.imencode(".png", sheet[:, :, ::-1])
    if ok:
        write_atomically(path, lambda temporary: temporary.write_bytes(png.tobytes()))
