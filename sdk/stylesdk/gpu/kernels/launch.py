"""Loads the kernels and launches them on images that lie on the GPU.

An image is the address of its first byte, as an int, and a size (height, width); rows lie without gaps. Every launch
only queues work on the stream that it is given, and may be captured in a CUDA graph. The CUDA context must be
current, as inside ``Device.current()``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stylesdk.errors import DeviceError, FrameError
from stylesdk.frames import Fit

FATBIN = Path(__file__).resolve().parents[1] / "kernels.fatbin"

# Parameters of each kernel in kernels.cu, in the letters of `struct`: P address, i int, f float.
SIGNATURES = {
    "resize_linear": "PPiiiiiii",
    "resize_area": "PPiiiiiii",
    "bgr_from_yuyv": "PPii",
    "bgr_from_nv12": "PPii",
    "smooth_compare": "PPPPPii",
    "smooth_spread": "PPPii",
    "smooth_keep": "PPPPPiif",
    "smooth_blend": "PPPPii",
}
_BLOCK = (32, 8, 1)  # threads; a warp reads along a row
_LARGEST = 32767  # pixels a side: positions between pixels are exact in 32 bits up to there
_BUILD = "cmake --preset default && cmake --build --preset default"


def load_kernels(cuda: Any, path: Path = FATBIN) -> Kernels | None:
    """The kernels for the GPU whose context is current; None where they were not built, and the CPU prepares frames.

    Args:
        cuda: the module ``pycuda.driver``, initialised.
        path: the fatbin.

    Raises:
        DeviceError: the file cannot be read, is damaged, or holds nothing for this GPU.
    """
    try:
        code = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeviceError(f"{path}: {error}", expected="a file that can be read", do=_BUILD) from error
    try:
        return Kernels(cuda.module_from_buffer(code))
    except cuda.Error as error:
        raise DeviceError(
            f"{path}, which the driver refuses: {error}",
            expected="the kernels of this release, and a GPU of compute capability 7.5 or newer",
            do=f"{_BUILD}; or delete the file, and frames are prepared on the CPU",
        ) from error


class Kernels:
    """The kernels of one CUDA module. Drop it, and what was made with it, while the context is current.

    Args:
        module: as ``pycuda.driver.module_from_buffer`` returns it.
    """

    def __init__(self, module: Any) -> None:
        self._functions = {name: module.get_function(name).prepare(types) for name, types in SIGNATURES.items()}

    def fit(self, source: int, canvas: int, fit: Fit, stream: Any) -> None:
        """``stylesdk.frames.fitted``: scale a frame into the canvas and repeat its edge in what is left over.

        Args:
            source: BGR uint8 of ``fit.source``.
            canvas: BGR uint8 of ``fit.canvas``, written.
            fit: as ``stylesdk.frames.fit_for`` returns it.
            stream: a ``pycuda.driver.Stream``.

        Raises:
            FrameError: an address or a size that cannot be, or one address for both images.
        """
        self._resize(source, fit.source[1], fit.source, canvas, fit.inner, fit.canvas, stream)

    def restore(self, canvas: int, out: int, fit: Fit, stream: Any) -> None:
        """``stylesdk.frames.restored``: the frame's part of a styled canvas, in the frame's own size.

        Args:
            canvas: BGR uint8 of ``fit.canvas``.
            out: BGR uint8 of ``fit.source``, written.
            fit: the one that filled the canvas.
            stream: a ``pycuda.driver.Stream``.

        Raises:
            FrameError: as ``fit``.
        """
        _check_inside(fit.inner, fit.canvas)
        self._resize(canvas, fit.canvas[1], fit.inner, out, fit.source, fit.source, stream)

    def bgr_from_yuyv(self, yuyv: int, out: int, size: tuple[int, int], stream: Any) -> None:
        """``cv2.cvtColor(..., cv2.COLOR_YUV2BGR_YUY2)``.

        Args:
            yuyv: uint8 (H, W, 2): Y0 U Y1 V of each two pixels, BT.601, luma 16-235.
            out: BGR uint8 (H, W, 3), written.
            size: (H, W); W is even.
            stream: a ``pycuda.driver.Stream``.

        Raises:
            FrameError: an odd width, an address or a size that cannot be, or one address for both images.
        """
        if size[1] % 2:
            raise FrameError(f"a YUYV image of {size}", expected="an even width: two pixels share their colour")
        _check_apart(yuyv, out)
        self.launch("bgr_from_yuyv", size, stream, yuyv, out, *size)

    def bgr_from_nv12(self, nv12: int, out: int, size: tuple[int, int], stream: Any) -> None:
        """``cv2.cvtColor(..., cv2.COLOR_YUV2BGR_NV12)``.

        Args:
            nv12: uint8 (H * 3 / 2, W): H rows of Y, then H / 2 rows of U V pairs, BT.601, luma 16-235.
            out: BGR uint8 (H, W, 3), written.
            size: (H, W), both even.
            stream: a ``pycuda.driver.Stream``.

        Raises:
            FrameError: an odd size, an address or a size that cannot be, or one address for both images.
        """
        if size[0] % 2 or size[1] % 2:
            raise FrameError(f"an NV12 image of {size}", expected="an even size: two by two pixels share their colour")
        _check_apart(nv12, out)
        self.launch("bgr_from_nv12", size, stream, nv12, out, *size)

    def launch(self, name: str, size: tuple[int, int], stream: Any, *arguments: float) -> None:
        """Queue the kernel ``name`` with one thread for each pixel of ``size``.

        Raises:
            FrameError: an address or a size that cannot be.
        """
        check_size(size)
        for letter, argument in zip(SIGNATURES[name], arguments, strict=True):
            if letter == "P" and argument <= 0:
                raise FrameError(f"address {argument}", expected="the address of device memory")
        grid = (-(-size[1] // _BLOCK[0]), -(-size[0] // _BLOCK[1]))
        self._functions[name].prepared_async_call(grid, _BLOCK, stream, *arguments)

    def _resize(
        self,
        source: int,
        stride: int,
        size: tuple[int, int],
        target: int,
        inner: tuple[int, int],
        canvas: tuple[int, int],
        stream: Any,
    ) -> None:
        check_size(size)
        _check_inside(inner, canvas)
        _check_apart(source, target)
        name = "resize_area" if inner[0] < size[0] else "resize_linear"  # as in stylesdk.frames
        self.launch(name, canvas, stream, source, target, stride, *size, *inner, *canvas)


def check_size(size: tuple[int, int]) -> None:
    """Raises FrameError where no image can have that (height, width)."""
    if not (1 <= size[0] <= _LARGEST and 1 <= size[1] <= _LARGEST):
        raise FrameError(f"an image of {size}", expected=f"(height, width), each 1 to {_LARGEST}")


def _check_inside(inner: tuple[int, int], canvas: tuple[int, int]) -> None:
    check_size(inner)
    if inner[0] > canvas[0] or inner[1] > canvas[1]:
        raise FrameError(f"a part of {inner} in a canvas of {canvas}", expected="a Fit that fit_for returned")


def _check_apart(source: int, target: int) -> None:
    if source == target:
        raise FrameError("one address for both images", expected="an image to write that is not read")
