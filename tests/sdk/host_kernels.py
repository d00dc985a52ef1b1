"""The kernels' own code as loops on the host, behind the interface of a pycuda module."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stylesdk.gpu.kernels import Kernels

ROOT = Path(__file__).resolve().parents[2]
CTYPES = {"P": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float}


def cmake(folder: Path, target: str, **options: Any) -> None:
    """Build one target of CMakeLists.txt in ``folder``."""
    beside = Path(sys.executable).parent
    program = shutil.which("cmake", path=os.pathsep.join([str(beside), os.environ["PATH"]]))
    assert program, (
        "got: no cmake; expected: cmake 3.24 or newer, to build the kernels' test; do this: pip install cmake"
    )
    settings = [f"-D{name}={value}" for name, value in options.items()]
    for command in (["-S", ROOT, "-B", folder, *settings], ["--build", folder, "--target", target]):
        done = subprocess.run([program, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


class HostFunction:
    """What pycuda's Function is to a kernel, to the same kernel as a loop; checks what a GPU would not."""

    def __init__(self, function: Any, launches: list[str]) -> None:
        self._function, self._launches = function, launches

    def prepare(self, types: str) -> HostFunction:
        self._types = types
        self._function.argtypes, self._function.restype = [CTYPES[letter] for letter in types], None
        return self

    def prepared_async_call(self, grid: tuple[int, int], block: tuple[int, int, int], stream: None, *args: Any) -> None:
        height, width = [value for letter, value in zip(self._types, args, strict=True) if letter == "i"][-2:]
        for blocks, threads, pixels in ((grid[0], block[0], width), (grid[1], block[1], height)):
            assert (blocks - 1) * threads < pixels <= blocks * threads, "each pixel is some thread's"
        self._launches.append(self._function.__name__)
        self._function(*args)


class Host:
    """Runs the kernels' loops; every address is that of a NumPy array."""

    def __init__(self, library: Path) -> None:
        self._library, self._arrays = ctypes.CDLL(str(library)), {}
        self.launches: list[str] = []
        self.kernels, self.stream = Kernels(self), None

    def get_function(self, name: str) -> HostFunction:
        return HostFunction(self._library[name], self.launches)

    def put(self, array: np.ndarray) -> int:
        room = np.empty(array.nbytes + 256, np.uint8)  # cuMemAlloc aligns to 256 bytes
        first = -room.ctypes.data % 256
        held = room[first : first + array.nbytes]
        held[:] = array.reshape(-1)
        self._arrays[held.ctypes.data] = held
        return int(held.ctypes.data)

    def get(self, address: int, shape: tuple[int, ...]) -> np.ndarray:
        return self._arrays[address].reshape(shape)
