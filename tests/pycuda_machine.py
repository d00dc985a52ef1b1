"""The kernels on a GPU, or on the pretend driver, for kernel_cases.py."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from stylesdk.gpu import Device
from stylesdk.gpu.kernels import FATBIN, load_kernels


class PycudaMachine:
    """Use it in a ``with``; the device is closed at its end."""

    def __init__(self, device: Device, path: Path = FATBIN) -> None:
        self._device, self._path = device, path
        self._allocations: list[Any] = []

    def __enter__(self) -> PycudaMachine:
        import pycuda.driver as cuda

        self._cuda, self._context = cuda, ExitStack()
        self._context.enter_context(self._device.current())
        kernels = load_kernels(cuda, self._path)
        assert kernels, f"got: no {self._path}; expected: the kernels; do this: cmake --build --preset default"
        self.kernels: Any = kernels
        self.stream: Any = cuda.Stream()
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.synchronize()
        while self._allocations:
            self._allocations.pop().free()
        self.kernels = self.stream = None  # both want their context current
        self._context.close()
        self._device.close()

    def put(self, array: np.ndarray) -> int:
        self._allocations.append(self._cuda.mem_alloc(array.nbytes))
        self._cuda.memcpy_htod_async(self._allocations[-1], np.ascontiguousarray(array), self.stream)
        self.stream.synchronize()
        return int(self._allocations[-1])

    def get(self, address: int, shape: tuple[int, ...]) -> np.ndarray:
        out = np.empty(shape, np.uint8)
        self._cuda.memcpy_dtoh_async(out, address, self.stream)
        self.stream.synchronize()
        return out
