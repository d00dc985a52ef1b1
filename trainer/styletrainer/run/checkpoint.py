"""What a run leaves on disk, and how it goes on from there. Every file is written beside, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from styletrainer.errors import TrainError

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "generator.safetensors"  # the averaged generator: what is exported
Weights = dict[str, Tensor]
_FREE = "free some disk space"
_ADVICE = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "name a folder that you may write to")
_ADVICE[errno.ENOENT] = "leave the folder where it is while it is written to"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)``, flush it to the disk, rename it to ``path``; on failure ``path`` is as before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "r+b") as file:  # Windows flushes no file that is open for reading
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainError(
            f"got: {error} while writing {path}; the file from before is untouched.\n"
            f"Do this: {_ADVICE.get(getattr(error, 'errno', None) or 0, _FREE)}, then run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(run: Path, state: dict[str, Any], averaged: nn.Module) -> None:
    """Write the whole training state, and the averaged weights for the export."""
    weights = {name: value.contiguous() for name, value in averaged.state_dict().items()}
    # The checkpoint last: a run that says that it reached a step has that step's weights.
    write_atomically(run / WEIGHTS, lambda path: save_file(weights, path))
    write_atomically(run / CHECKPOINT, lambda path: torch.save(state, path))


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """The state of the run in this folder, on the CPU, or None for a new one."""
    path = run / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainError(
            f"got: {path}, which does not read as a checkpoint ({error}).\n"
            "Do this: move it away to train anew; generator.safetensors beside it can still be exported."
        ) from error
    return state


def load_weights(module: nn.Module, path: Path, grow: Callable[[Weights], Weights] | None = None) -> None:
    """Load safetensors weights; a file of another generator is named, not half loaded.

    ``grow``: what ``module`` makes of the file's weights where it has more styles.
    """
    if not path.is_file():
        raise TrainError(f"got: no {path.name} in {path.parent}; expected: a run that reached its first checkpoint.")
    try:
        weights: Weights = load_file(path)
    except SafetensorError as error:
        raise TrainError(f"got: {path}, which does not read as safetensors ({error}).") from error
    load_state(module, weights if grow is None else grow(weights), str(path))


def load_state(module: nn.Module, weights: Weights, source: str) -> None:
    """``load_state_dict`` that tells which generator the weights are not of."""
    own = module.state_dict()
    wrong = [k for k in own if k not in weights or weights[k].shape != own[k].shape]
    wrong += [k for k in weights if k not in own]
    if wrong:
        raise TrainError(
            f"got: {source}, whose tensors are not those of this {type(module).__name__} "
            f"({len(wrong)} differ, first {wrong[0]}); expected: weights of the same generator and options."
        )
    module.load_state_dict(weights)
