"""OpenVINO: the fastest runtime on CPUs, int8 and, where the CPU has it, bf16."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from stylesdk.errors import DeviceError, MissingExtraError, ModelFileError
from stylesdk.frames import Frame
from stylesdk.latency import timed, usable_cores
from stylesdk.manifest import Manifest, read_model_file
from stylesdk.mix import Weights, check_style_input
from stylesdk.onnx_file import manifest_from_onnx

REINSTALL = "python -m pip install --force-reinstall openvino"
_SIZES_KEPT = 4  # a size takes some tenths of a second to compile


class OpenVINOBackend:
    """One OpenVINO model on the CPU, compiled for each frame size when it first comes.

    A fixed size runs much faster than a free one. Arithmetic is bf16 where the CPU computes in it, else fp32;
    frames go in and out as they are, in 8 bits.

    Args:
        path: an ONNX file with a stylesdk manifest.
        device: ``cpu`` or ``auto``; OpenVINO here is for CPUs.
        threads: None for every usable core.

    Raises:
        ModelFileError: no stylesdk model, damaged, or refused by OpenVINO.
        DeviceError: another ``device``, or an OpenVINO that is installed and does not work.
        MissingExtraError: OpenVINO is not installed.
    """

    def __init__(self, path: Path, *, device: str = "auto", threads: int | None = None) -> None:
        data = read_model_file(path)
        self.manifest: Manifest | None = manifest_from_onnx(data, str(path))
        if device not in ("auto", "cpu"):
            raise DeviceError(
                f"device {device!r} with OpenVINO", expected="auto or cpu", do="leave out runtime='openvino'"
            )
        ov, core, precision = _open_core()
        self._core: Any = core
        try:
            self._model: Any = self._core.read_model(data)
            shapes = {port.any_name: list(port.partial_shape) for port in self._model.inputs}
        except RuntimeError as error:
            raise ModelFileError(
                f"{path}, which OpenVINO {ov.__version__} refuses: {error}", do="export it again with `stylesdk export`"
            ) from error
        style = shapes.get("style")
        check_style_input(path, self.manifest, style and [d.get_length() if d.is_static else str(d) for d in style])
        self._options = {
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._feeds: dict[str, Any] = {}  # of the last frame
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        version = ".".join(ov.__version__.split("-")[0].split(".")[:2])
        self.name = f"openvino {version} (CPU, {precision})"

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        feeds = {"frame": frame[None], "strength": np.array([strength], np.float32)}
        if style is not None:
            feeds["style"] = style
        try:
            request = self._request(frame.shape)
            # OpenVINO drops an input that a graph does not use.
            known = {name for port in request.model_inputs for name in port.names}
            feeds = {name: value for name, value in feeds.items() if name in known}
            request.infer(feeds, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise DeviceError(
                f"{self.name} failed on a frame of {frame.shape}: {error}",
                expected="a styled frame",
                do="try a larger frame, or runtime='onnxruntime'",
            ) from error
        self._feeds = feeds
        # OpenVINO writes the next frame into the same memory.
        styled: Frame = request.get_output_tensor().data[0].copy()
        return styled

    def run_in_place(self, count: int) -> list[float]:
        """Milliseconds of ``count`` inferences on the last frame, in the tensors that the request holds."""
        if not self._feeds:
            return []
        request = self._request(self._feeds["frame"].shape[1:])
        request.infer(self._feeds, share_inputs=True, share_outputs=True)
        return timed(lambda: request.infer(share_inputs=True, share_outputs=True), count)

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape in self._requests:
            self._requests.move_to_end(shape)
            return self._requests[shape]
        model = self._model.clone()
        model.reshape({"frame": [1, *shape]})
        request = self._core.compile_model(model, "CPU", self._options).create_infer_request()
        self._requests[shape] = request
        if len(self._requests) > _SIZES_KEPT:
            self._requests.popitem(last=False)
        return request

    def close(self) -> None:
        self._requests.clear()
        self._feeds = {}
        self._model = self._core = None


def inference_precision() -> tuple[str, str]:
    """``bf16`` or ``fp32``, in which OpenVINO computes on this CPU, and why.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        DeviceError: it is installed and does not work.
    """
    precision = _open_core()[2]
    return precision, "the CPU computes in it" if precision == "bf16" else "the CPU has no bf16"


def _open_core() -> tuple[Any, Any, str]:
    """OpenVINO, a core, and the precision that suits this CPU; raises as ``inference_precision``."""
    try:
        import openvino

        core = openvino.Core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: OpenVINO without its plugin for CPUs
        if isinstance(error, ModuleNotFoundError) and error.name == "openvino":
            raise MissingExtraError("openvino", "openvino", "running ONNX models with OpenVINO") from error
        raise DeviceError(
            f"OpenVINO does not work: {' '.join(str(error).split())}",
            expected="a whole installation of OpenVINO",
            do=f"{REINSTALL}, or use runtime='onnxruntime'",
        ) from error
    return openvino, core, "bf16" if "BF16" in capabilities else "fp32"
