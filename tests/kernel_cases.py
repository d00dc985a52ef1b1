"""The CUDA kernels against what the CPU path does: the same checks for the host build and for a GPU."""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np

from stylesdk.frames import Fit, fit_for, fitted, restored
from stylesdk.gpu.kernels import DeviceSmoother, Kernels, smoothing_bytes
from stylesdk.live.smoothing import Smoother

TOLERANCE = 1  # of 255, everywhere
Size = tuple[int, int]

# (source, canvas), each (height, width).
FITS: list[tuple[Size, Size]] = [
    ((1, 1), (1, 1)),
    ((1, 1), (9, 7)),
    ((9, 7), (1, 1)),
    ((1, 50), (20, 20)),
    ((50, 1), (20, 20)),
    ((1, 4000), (720, 1280)),
    ((4000, 1), (720, 1280)),
    ((2, 3), (64, 48)),
    ((97, 101), (64, 64)),
    ((64, 64), (97, 101)),
    ((96, 128), (48, 64)),  # two by two
    ((129, 387), (43, 129)),  # three by three
    ((128, 256), (32, 64)),  # four by four
    ((1000, 37), (123, 77)),
    ((100, 1000), (100, 996)),  # as high as before, less wide
    ((719, 1281), (720, 1280)),
    ((721, 1279), (720, 1280)),
    ((720, 1280), (720, 1280)),
    ((480, 640), (720, 1280)),
    ((1080, 1920), (720, 1280)),
    ((2160, 3840), (720, 1280)),
]
CAMERAS: list[Size] = [(2, 2), (2, 4), (4, 2), (10, 6), (480, 640), (722, 1282)]
CLIPS: list[Size] = [(1, 1), (3, 2), (17, 33), (64, 64), (120, 160), (135, 241)]


class Machine(Protocol):
    """Where the kernels run."""

    kernels: Kernels
    stream: Any

    def put(self, array: np.ndarray) -> int:
        """Address of a copy."""

    def get(self, address: int, shape: tuple[int, ...]) -> np.ndarray:
        """The uint8 array at an address."""


def largest(left: np.ndarray, right: np.ndarray) -> int:
    assert left.shape == right.shape and left.dtype == right.dtype == np.uint8
    return int(cv2.absdiff(left, right).max())


def empty(machine: Machine, *shape: int) -> int:
    """An image of a value that shows where nothing was written."""
    return machine.put(np.full(shape, 123, np.uint8))


def noise(*shape: int) -> np.ndarray:
    """The hardest picture: black, white and everything between, beside each other."""
    random = np.random.default_rng(sum(shape))
    image = random.integers(0, 256, shape, np.uint8)
    image[random.random(shape) < 0.2] = 0
    image[random.random(shape) < 0.2] = 255
    return image


def fit_difference(machine: Machine, source: Size, canvas: Size) -> int:
    fit, frame = fit_for(source, canvas), noise(*source, 3)
    out = empty(machine, *canvas, 3)
    machine.kernels.fit(machine.put(frame), out, fit, machine.stream)
    return largest(machine.get(out, (*canvas, 3)), fitted(frame, fit))


def restore_difference(machine: Machine, source: Size, canvas: Size) -> int:
    fit, styled = fit_for(source, canvas), noise(*canvas, 3)
    out = empty(machine, *source, 3)
    machine.kernels.restore(machine.put(styled), out, fit, machine.stream)
    return largest(machine.get(out, (*source, 3)), restored(styled, fit))


def yuyv_difference(machine: Machine, size: Size) -> int:
    yuyv, out = noise(*size, 2), empty(machine, *size, 3)
    machine.kernels.bgr_from_yuyv(machine.put(yuyv), out, size, machine.stream)
    return largest(machine.get(out, (*size, 3)), cv2.cvtColor(yuyv, cv2.COLOR_YUV2BGR_YUY2))


def nv12_difference(machine: Machine, size: Size) -> int:
    nv12, out = noise(size[0] * 3 // 2, size[1]), empty(machine, *size, 3)
    machine.kernels.bgr_from_nv12(machine.put(nv12), out, size, machine.stream)
    return largest(machine.get(out, (*size, 3)), cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12))


def moving_clip(size: Size, count: int = 20) -> list[tuple[np.ndarray, np.ndarray]]:
    """Photos and their style: sensor noise, a square that moves, slow light, and a cut in the middle."""
    random = np.random.default_rng(0)
    first, second = (cv2.GaussianBlur(noise(*size, 3), (0, 0), 2).astype(float) for _ in range(2))
    clip = []
    for index in range(count):
        photo = (first if index < count // 2 else 255 - second) + 0.3 * index + random.normal(0, 2, (*size, 3))
        left = index * 3 % max(size[1] - 4, 1)
        photo[: size[0] // 3, left : left + size[1] // 4] = (200, 120, 90)
        photo = np.clip(photo, 0, 255).astype(np.uint8)
        flicker = random.normal(0, 8, (*size, 3))
        clip.append((photo, np.clip(255.0 - photo + flicker, 0, 255).astype(np.uint8)))
    return clip


class Smoothers:
    """Both smoothers, fed the same frames."""

    def __init__(self, machine: Machine, biggest: Size) -> None:
        self._machine, self.reference = machine, Smoother()
        # NaN in every float: nothing may be read before it is written.
        memory = machine.put(np.full(smoothing_bytes(biggest), 255, np.uint8))
        self.device = DeviceSmoother(machine.kernels, memory, biggest)

    def next(self, photo: np.ndarray, styled: np.ndarray, amount: float) -> tuple[np.ndarray, np.ndarray]:
        """The machine's frame, and the reference's."""
        machine, size = self._machine, (photo.shape[0], photo.shape[1])
        out = empty(machine, *photo.shape)
        self.device.smooth(machine.put(photo), machine.put(styled), out, size, amount, machine.stream)
        return machine.get(out, photo.shape), self.reference.smooth(photo, styled, amount)

    def reset(self) -> None:
        self.device.reset()
        self.reference.reset()


def smooth_difference(machine: Machine, size: Size, amount: float) -> int:
    """Over a clip of twenty frames with a cut, then ten of half the size, then the first size again."""
    half = (-(-size[0] // 2), -(-size[1] // 2))
    both = Smoothers(machine, size)
    frames = moving_clip(size) + moving_clip(half, 10) + moving_clip(size, 5)
    return max(largest(*both.next(photo, styled, amount)) for photo, styled in frames)


def check_errors(machine: Machine) -> list[str]:
    """What the refusals of wrong arguments say, in a fixed order; each must be a FrameError."""
    from stylesdk.errors import FrameError

    kernels, stream, image = machine.kernels, machine.stream, empty(machine, 64, 64, 3)
    other = empty(machine, 64, 64, 3)
    square = fit_for((8, 8), (8, 8))
    smoother = DeviceSmoother(kernels, empty(machine, smoothing_bytes((8, 8))), (8, 8))
    wrong = [
        lambda: kernels.fit(image, image, square, stream),
        lambda: kernels.fit(0, other, square, stream),
        lambda: kernels.fit(image, other, Fit((8, 8), (9, 8), (8, 8)), stream),
        lambda: kernels.fit(image, other, Fit((0, 8), (8, 8), (8, 8)), stream),
        lambda: kernels.fit(image, other, Fit((8, 8), (8, 40000), (8, 40000)), stream),
        lambda: kernels.restore(image, other, Fit((8, 8), (8, 9), (8, 8)), stream),
        lambda: kernels.bgr_from_yuyv(image, other, (8, 7), stream),
        lambda: kernels.bgr_from_nv12(image, other, (7, 8), stream),
        lambda: kernels.bgr_from_nv12(image, image, (8, 8), stream),
        lambda: smoother.smooth(image, image, other, (8, 8), 1.1, stream),
        lambda: smoother.smooth(image, image, other, (8, 8), float("nan"), stream),
        lambda: smoother.smooth(image, image, other, (9, 8), 0.5, stream),
        lambda: smoother.smooth(image, image, 0, (8, 8), 0.5, stream),
        lambda: DeviceSmoother(kernels, image + 4, (8, 8)),
        lambda: smoothing_bytes((8, -1)),
    ]
    said = []
    for call in wrong:
        try:
            call()
        except FrameError as error:
            said.append(str(error))
        else:
            raise AssertionError(f"call {len(said)} was not refused")
    return said
