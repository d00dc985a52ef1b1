"""What computes: which device, and whether it has bf16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from styletrainer.errors import TrainError

DEVICES = ("auto", "cpu", "cuda", "mps")


def chosen_device(name: str) -> torch.device:
    """One of DEVICES; ``auto`` is a GPU where there is one. One that cannot be had is an error, never a silent CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, usable in there.items() if usable)
    if not there.get(name, False):
        usable = ", ".join(device for device, found in there.items() if found)
        raise TrainError(f"got: device {name}; expected: one that PyTorch can use here: auto, {usable}.")
    return torch.device(name)


def computes_bf16(accelerator: str) -> bool:
    """Whether ``accelerator``, one of DEVICES, computes in bf16 and does not emulate it."""
    if accelerator in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return accelerator in ("auto", "cpu") and bool(asked and asked())


# What PyTorch says where memory is used up: CUDA and MPS, its libraries, and the CPU, which has no error of its own.
_FULL = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")


@contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Raise TrainError where the memory of the device, or of the machine, is used up."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error)
        if not isinstance(error, MemoryError) and not any(words in said for words in _FULL):
            raise
        raise TrainError(
            f"got: {said.splitlines()[0] if said else 'no memory left'}; expected: a step that fits into memory. "
            "The last checkpoint is kept.\n"
            "Do this: end what else uses the memory, or begin a run of a smaller --batch, --set crop=... or generator."
        ) from error
