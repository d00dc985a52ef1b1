"""Public image-to-image networks as ONNX files, with the pre- and post-processing that such a network needs.

One input of three channels, NCHW or NHWC, float or uint8, of any or of one size; RGB, as all of them are. Floats go
in as 0-1 and come out as 0-1: a network that means 0-255 or -1 to 1 takes as long, and its picture is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from stylesdk.errors import DeviceError, ModelFileError
from stylesdk.frames import Frame
from stylesdk.latency import timed, usable_cores
from stylesdk.manifest import Manifest
from stylesdk.mix import Weights

_TYPES: dict[int, Any] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.FLOAT16: np.float16,
    onnx.TensorProto.UINT8: np.uint8,
}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_STRIDE = 32  # networks that do not crop return some pixels more or less
_DO = "give the file of a network that turns a picture into a picture"

_DOCTOR = "`stylesdk doctor` tells what is missing"


@dataclass(frozen=True)
class Form:
    """How a network wants its picture: the input's name and type, channels first or last, height, width or None."""

    name: str
    dtype: np.dtype[Any]
    channels_first: bool
    size: tuple[int | None, int | None]


def form_of(path: Path) -> Form:
    """Read the input of an ONNX file.

    Raises:
        ModelFileError: no ONNX file, or none that takes one picture of three channels.
    """
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's own classes, OSError
        raise ModelFileError(f"{path}, which cannot be read: {error}", expected="an ONNX file", do=_DO) from error
    weights = {tensor.name for tensor in graph.initializer}  # old files list them as inputs too
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or not graph.output:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelFileError(f"{path} with the inputs {names}", expected="one input, a picture", do=_DO)
    tensor = inputs[0].type.tensor_type
    shape = [dim.dim_value or None for dim in tensor.shape.dim]
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    told = f"{path} with the input {inputs[0].name}, {kind} {shape}"
    if tensor.elem_type not in _TYPES:
        raise ModelFileError(told, expected="float, float16 or uint8", do=_DO)
    if len(shape) != 4 or shape[0] not in (None, 1) or 3 not in (shape[1], shape[3]):
        raise ModelFileError(told, expected="(1, 3, height, width) or (1, height, width, 3)", do=_DO)
    first = shape[1] == 3
    height, width = shape[2:] if first else shape[1:3]
    return Form(inputs[0].name, np.dtype(_TYPES[tensor.elem_type]), first, (height, width))


class Network(Protocol):
    """A loaded network: tensor in, tensor out, and its time for a tensor that is in place."""

    name: str

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]: ...
    def in_place(self, tensor: NDArray[Any], count: int) -> list[float]: ...


class OnnxRuntimeNetwork:
    """A network on onnxruntime, on ``cpu`` or ``cuda`` and on nothing else."""

    def __init__(self, path: Path, form: Form, device: str, threads: int | None) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3
        self._ort: Any = ort
        self._input, self._place = form.name, device
        provider = _PROVIDERS.get(device, "")
        if provider not in ort.get_available_providers():
            raise DeviceError(f"device {device!r}", expected="cpu, or cuda with onnxruntime-gpu", do=_DOCTOR)
        self._session: Any = ort.InferenceSession(str(path), options, providers=[provider])
        used = self._session.get_providers()[0]
        if used != provider:
            raise DeviceError(f"onnxruntime fell back to {used}", expected=provider, do=_DOCTOR)
        self._output = self._session.get_outputs()[0].name
        self.name = f"onnxruntime {ort.__version__} ({device.upper()})"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self._session.run([self._output], {self._input: tensor})[0])

    def in_place(self, tensor: NDArray[Any], count: int) -> list[float]:
        binding = self._session.io_binding()
        value = self._ort.OrtValue.ortvalue_from_numpy(tensor, self._place, 0)
        binding.bind_ortvalue_input(self._input, value)
        binding.bind_output(self._output, self._place)
        return timed(lambda: self._session.run_with_iobinding(binding), count)


class OpenVINONetwork:
    """A network on OpenVINO, compiled for each size when it first comes, in bf16 where the CPU computes in it."""

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        import openvino as ov

        if device != "cpu":
            raise DeviceError(f"OpenVINO on {device}", expected="cpu", do="use --runtime onnxruntime")
        core: Any = ov.Core()
        bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._options = {
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._core, self._model = core, core.read_model(str(path))
        self._request: Any = None
        self._shape: tuple[int, ...] = ()
        version = ".".join(ov.__version__.split("-")[0].split(".")[:2])
        self.name = f"openvino {version} (CPU, {'bf16' if bf16 else 'fp32'})"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        if tensor.shape != self._shape:
            self._model.reshape(list(tensor.shape))
            self._request = self._core.compile_model(self._model, "CPU", self._options).create_infer_request()
            self._shape = tensor.shape
        self._request.infer([tensor], share_inputs=True, share_outputs=True)
        return np.asarray(self._request.get_output_tensor(0).data)

    def in_place(self, tensor: NDArray[Any], count: int) -> list[float]:
        self.run(tensor)
        return timed(lambda: self._request.infer(share_inputs=True, share_outputs=True), count)


class PeerBackend:
    """A network of somebody else behind the SDK's seam, so that it is timed as ours are.

    Args:
        path: an ONNX file, as ``form_of`` takes it.
        runtime: ``onnxruntime`` or ``openvino``.
        device: ``cpu`` or ``cuda``.
        threads: of the CPU, None for every usable core.

    Raises:
        ModelFileError: not a picture in, or the runtime refuses the file.
        DeviceError: ``device`` cannot be had.
    """

    manifest: Manifest | None = None  # so it has no styles, and no strength

    def __init__(self, path: Path, runtime: str, device: str = "cpu", threads: int | None = None) -> None:
        self._path, self._form = path, form_of(path)
        self._tensor: NDArray[Any] | None = None
        try:
            self._network: Network | None = (
                OpenVINONetwork(path, device, threads)
                if runtime == "openvino"
                else OnnxRuntimeNetwork(path, self._form, device, threads)
            )
        except DeviceError:
            raise
        except Exception as error:  # every runtime has its own classes
            raise ModelFileError(f"{path}, which {runtime} refuses: {error}", do=_DO) from error
        self.name = self._network.name

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        return self._form.size[0] or size[0], self._form.size[1] or size[1]

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:  # noqa: ARG002
        assert self._network is not None
        self._tensor = tensor_from_frame(frame, self._form)
        try:
            found = self._network.run(self._tensor)
        except Exception as error:  # every runtime has its own classes
            raise ModelFileError(
                f"{self._path}, which fails on a frame of {frame.shape}: {error}",
                do="give a --size that it takes, such as a multiple of 32",
            ) from error
        return self._frame(found, frame)

    def _frame(self, tensor: NDArray[Any], frame: Frame) -> Frame:
        """The network's picture in the frame's size; a few pixels more or less are scaled away."""
        styled = frame_from_tensor(tensor, self._form.channels_first)
        if styled is None or any(abs(a - b) >= _STRIDE for a, b in zip(styled.shape, frame.shape, strict=True)):
            raise ModelFileError(
                f"{self._path}, which makes {tensor.dtype} {tensor.shape} of a frame of {frame.shape}",
                expected="a picture of the frame's size, float or uint8",
                do=_DO,
            )
        if styled.shape != frame.shape:
            styled = np.asarray(cv2.resize(styled, frame.shape[1::-1]), dtype=np.uint8)
        return styled

    def run_in_place(self, count: int) -> list[float]:
        """Milliseconds of ``count`` inferences on the last frame's tensor."""
        return [] if self._network is None or self._tensor is None else self._network.in_place(self._tensor, count)

    def close(self) -> None:
        self._network = self._tensor = None


def tensor_from_frame(frame: Frame, form: Form) -> NDArray[Any]:
    """BGR uint8 (H, W, 3) -> RGB, (1, 3, H, W) or (1, H, W, 3): uint8 as it is, floats 0-1."""
    if form.dtype == np.uint8:
        picture = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)[None]
        return np.ascontiguousarray(picture.transpose(0, 3, 1, 2)) if form.channels_first else picture
    if form.channels_first:
        return cv2.dnn.blobFromImage(frame, 1 / 255, swapRB=True).astype(form.dtype, copy=False)
    picture = np.multiply(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.float32(1 / 255), dtype=np.float32)
    return picture[None].astype(form.dtype, copy=False)


def frame_from_tensor(tensor: NDArray[Any], channels_first: bool) -> Frame | None:
    """The way back; None for what is no picture. ``channels_first`` decides where the shape leaves both open."""
    if tensor.ndim != 4 or tensor.shape[0] != 1 or 3 not in (tensor.shape[1], tensor.shape[3]):
        return None
    first = tensor.shape[1] == 3 and (channels_first or tensor.shape[3] != 3)
    if np.issubdtype(tensor.dtype, np.floating):
        scaled = np.multiply(tensor, np.float32(255), dtype=np.float32)
        tensor = np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)
    if tensor.dtype != np.uint8:
        return None
    picture = tensor[0].transpose(1, 2, 0) if first else tensor[0]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR), dtype=np.uint8)
