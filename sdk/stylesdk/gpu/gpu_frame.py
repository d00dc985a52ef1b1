"""Frames that are on the GPU already, in and out without a copy: ``__cuda_array_interface__`` and DLPack.

torch, CuPy, Numba and JAX speak both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from stylesdk.errors import FrameError
from stylesdk.gpu import dlpack
from stylesdk.gpu.driver import gpu_of, wait_for_stream

_EXPECTED = "BGR uint8 (height, width, 3), C-contiguous, on the GPU"
_LEGACY = 1  # CU_STREAM_LEGACY
_DO = "make it so on the GPU, such as tensor.contiguous(), or give a numpy array"


class OnGpu(Protocol):
    """A frame on the GPU, as torch, CuPy and others hold it. (``__cuda_array_interface__`` alone will do, too.)"""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...

    def __dlpack_device__(self) -> Any: ...


class GpuFrame:
    """A BGR uint8 (H, W, 3) picture on the GPU, ready to be read; its memory lives as long as it does.

    ``torch.as_tensor(frame, device="cuda")`` and ``torch.from_dlpack(frame)`` share it without a copy.

    Args:
        address: of the first byte.
        shape: (height, width, 3).
        device: number of the GPU.
    """

    def __init__(self, address: int, shape: tuple[int, int, int], device: int = 0) -> None:
        self.address, self.shape, self._device = address, shape, device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # stream None: nothing is queued that a reader would have to wait for.
        return {
            "shape": self.shape,
            "typestr": "|u1",
            "data": (self.address, False),
            "version": 3,
            "strides": None,
            "stream": None,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """(2, number of the GPU): kDLCUDA."""
        return dlpack.CUDA, self._device

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> object:
        """A DLPack capsule; the picture is complete, so ``stream`` has nothing to wait for."""
        del stream
        return dlpack.capsule_from_address(self.address, self.shape, self._device, owner=self)


def size_on_gpu(frame: object) -> tuple[int, int]:
    """(height, width) of a frame on the GPU, by the shape that it tells. Raises FrameError for no picture."""
    facts = getattr(frame, "__cuda_array_interface__", None)
    shape = tuple(facts["shape"] if facts else getattr(frame, "shape", ()))
    if len(shape) != 3:
        raise FrameError(f"shape {shape}", expected=_EXPECTED, do=_DO)
    return int(shape[0]), int(shape[1])


@dataclass(frozen=True)
class Place:
    """Where a frame of somebody else's lies on the GPU, complete, or made so by what the reader's stream waits for."""

    address: int
    shape: tuple[int, int, int]
    owner: object  # keeps the memory alive


def is_on_gpu(frame: object) -> bool:
    """Whether ``frame`` says that it is on a CUDA device."""
    if hasattr(frame, "__cuda_array_interface__"):
        return True
    device = getattr(frame, "__dlpack_device__", None)
    return device is not None and device()[0] == dlpack.CUDA


def place_of(frame: object, reader: int, index: int) -> Place:
    """Where ``frame`` lies.

    Args:
        frame: anything with ``__dlpack__``, else with ``__cuda_array_interface__`` (any version).
        reader: handle of the stream that will read it.
        index: number of the GPU that will; the context is current.

    Raises:
        FrameError: not uint8 (H, W, 3), empty, not C-contiguous, on another GPU, or its writer's stream failed.
    """
    # DLPack first: it makes the reader's stream wait for the writer's. torch's other interface names no stream.
    if hasattr(frame, "__dlpack__"):
        _check_gpu(frame.__dlpack_device__()[1], index)  # type: ignore[attr-defined]
        address, shape, typestr, strides, owner = dlpack.read(frame.__dlpack__(stream=reader))
        return Place(address, _checked(shape, typestr, strides), owner)
    facts = frame.__cuda_array_interface__  # type: ignore[attr-defined]
    address = facts["data"][0]
    _check_gpu(gpu_of(address), index)
    # Where no stream is named, the legacy one is what such packages work on; ours do not wait for it by themselves.
    if not wait_for_stream(facts.get("stream") or _LEGACY):
        raise FrameError(f"a frame whose stream {facts.get('stream')} failed", expected="a frame that was written")
    return Place(address, _checked(tuple(facts["shape"]), facts["typestr"], facts.get("strides")), frame)


def _check_gpu(found: int, index: int) -> None:
    """An address of another GPU would end CUDA in this process."""
    if found != index:
        raise FrameError(f"a frame on GPU {found}", expected=f"GPU {index}", do=f"move it: frame.to('cuda:{index}')")


def _checked(shape: tuple[int, ...], typestr: str, strides: tuple[int, ...] | None) -> tuple[int, int, int]:
    found = f"{typestr} {shape}" + (f" with strides {strides}" if strides else "")
    picture = typestr == "|u1" and len(shape) == 3 and shape[2] == 3 and 0 not in shape
    if not picture or (strides is not None and tuple(strides) != (shape[1] * 3, 3, 1)):
        raise FrameError(found, expected=_EXPECTED, do=_DO)
    return shape[0], shape[1], 3
