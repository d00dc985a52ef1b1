"""Triton Inference Server: a style that runs in another process, or on another machine, over gRPC.

    from stylesdk.backends.triton import TritonBackend
    stylizer = stylesdk.Stylizer(backend=TritonBackend("localhost:8001", "starry_night_onnx"))

`stylesdk export MODEL -o DIR --format triton` writes the model repository that the server needs.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

from stylesdk.errors import DeviceError, FrameError, MissingExtraError, ModelFileError
from stylesdk.frames import Frame
from stylesdk.manifest import KEY, Manifest, manifest_from_json
from stylesdk.mix import Weights

_TIMEOUT = 30.0  # seconds for one answer; the first frame of a new size may take some
_SHARED = Path("/dev/shm")  # noqa: S108  # where Linux keeps shared memory
_EXPORT = "write the repository again with `stylesdk export MODEL -o DIR --format triton`"

Tensors = dict[str, tuple[str, list[int]]]  # name -> Triton's data type and dims


def contract_tensors(manifest: Manifest, *, batched: bool) -> Tensors:
    """The inputs of a model, and its output ``styled``, as Triton's model config has them.

    ``batched``: the server joins frames of several clients, and its dims are those of one frame. A plan is not: its
    dims are whole, -1 for sides that it takes in several sizes.
    """
    fixed = manifest.max_size is not None and manifest.max_size == manifest.min_size
    height, width = manifest.max_size if fixed and manifest.max_size else (-1, -1)
    frame = ("TYPE_UINT8", [*([] if batched else [1]), height, width, 3])
    tensors: Tensors = {"frame": frame, "strength": ("TYPE_FP32", [1])}
    if manifest.style_length:
        tensors["style"] = ("TYPE_FP32", [manifest.style_length])
    return tensors | {"styled": frame}


class TritonBackend:
    """One model of a Triton server.

    Args:
        url: ``HOST:PORT`` of the server's gRPC port, 8001 by default; no ``http://``.
        model: a model of a repository that `stylesdk export --format triton` wrote, such as ``starry_night_onnx``.
        shared_memory: hand frames over in shared memory instead of the connection; the server must run on this
            machine, in a container with ``--ipc=host``.

    Raises:
        DeviceError: no server there, or the model is not loaded.
        ModelFileError: a model of the server that is not in the frame contract.
        MissingExtraError: tritonclient is not installed.
    """

    def __init__(self, url: str, model: str, *, shared_memory: bool = False) -> None:
        self._grpc, self._error = _import_client()
        self._url, self._model = url, model
        self._shared = shared_memory
        self._region: SharedMemory | None = None
        self._client = self._grpc.InferenceServerClient(url)  # connects with the first question
        try:
            self._check_ready()
            answer = self._asked("the model's config", self._client.get_model_config, model, as_json=True)
            config = answer["config"]
            self._batched = int(config.get("max_batch_size", 0)) > 0
            self._promise = _checked_manifest(config, f"{model} on {url}")
            self.manifest: Manifest | None = self._promise
        except BaseException:
            self._client.close()
            raise
        self.name = f"Triton {model} ({url}{', shared memory' if shared_memory else ''})"

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        low, high = self._promise.min_size, self._promise.max_size
        if low is None or high is None:
            return size
        return min(max(size[0], low[0]), high[0]), min(max(size[1], low[1]), high[1])

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        size = (frame.shape[0], frame.shape[1])
        if self.canvas(size) != size:
            raise FrameError(
                f"a frame of {size}",
                expected=f"{self._promise.min_size} to {self._promise.max_size}, the sizes of the plan {self._model}",
                do="style frames with Stylizer.run, which fits them",
            )
        values = {"strength": np.array([strength], np.float32)}
        if style is not None:
            values["style"] = style
        if self._batched:
            values = {name: value[None] for name, value in values.items()}
        inputs = [self._given(name, value) for name, value in values.items()]
        return self._through_memory(frame, inputs) if self._shared else self._through_connection(frame, inputs)

    def close(self) -> None:
        self._drop_region()
        self._client.close()

    def _through_connection(self, frame: Frame, inputs: list[Any]) -> Frame:
        result = self._infer([self._given("frame", frame[None]), *inputs], None)
        styled = result.as_numpy("styled")
        self._check_shape(None if styled is None else list(styled.shape), frame)
        out: Frame = styled[0].copy()  # what tritonclient gives cannot be written to
        return out

    def _through_memory(self, frame: Frame, inputs: list[Any]) -> Frame:
        """The region holds the frame, and behind it the styled one."""
        count = frame.nbytes
        region = self._region_of(2 * count)
        memory = region.buf
        assert memory is not None
        memory[:count] = frame.reshape(-1).data
        given = self._grpc.InferInput("frame", [1, *frame.shape], "UINT8")
        given.set_shared_memory(region.name, count)
        wanted = self._grpc.InferRequestedOutput("styled")
        wanted.set_shared_memory(region.name, count, offset=count)
        try:
            result = self._infer([given, *inputs], [wanted])
        except DeviceError:
            self._drop_region()  # a late answer must not land on the next frame's
            raise
        output = result.get_output("styled")
        self._check_shape(None if output is None else list(output.shape), frame)
        return np.array(memory[count : 2 * count], np.uint8).reshape(frame.shape)

    def _infer(self, inputs: list[Any], outputs: list[Any] | None) -> Any:
        call = self._client.infer
        return self._asked("a frame", call, self._model, inputs, outputs=outputs)

    def _given(self, name: str, value: np.ndarray[Any, Any]) -> Any:
        tensor = self._grpc.InferInput(name, list(value.shape), "UINT8" if value.dtype == np.uint8 else "FP32")
        tensor.set_data_from_numpy(value)
        return tensor

    def _check_shape(self, shape: list[int] | None, frame: Frame) -> None:
        if shape != [1, *frame.shape]:
            raise DeviceError(
                f"a result of {shape} from {self.name} for a frame of {frame.shape}",
                expected="a result of the frame's size",
                do=_EXPORT,
            )

    def _region_of(self, size: int) -> SharedMemory:
        """Shared memory of at least ``size`` bytes, which the server knows under its own name."""
        if self._region is None or self._region.size < size:
            self._drop_region()
            self._region = _new_region(size)
            name, call = self._region.name, self._client.register_system_shared_memory
            try:
                self._asked("shared memory", call, name, f"/{name}", self._region.size)
            except DeviceError as error:
                self._drop_region()
                raise DeviceError(
                    f"{self._url}, which cannot open the shared memory of this machine ({error})",
                    expected="a server on this machine that sees its shared memory",
                    do="start its container with --ipc=host, or open the backend with shared_memory=False",
                ) from error
        return self._region

    def _drop_region(self) -> None:
        region, self._region = self._region, None
        if region is None:
            return
        with suppress(self._error):  # a server that is gone has forgotten the region already
            self._client.unregister_system_shared_memory(region.name, client_timeout=_TIMEOUT)
        region.close()
        with suppress(FileNotFoundError):
            region.unlink()

    def _check_ready(self) -> None:
        self._asked("whether it lives", self._client.is_server_live)
        if not self._asked("whether the model is ready", self._client.is_model_ready, self._model):
            raise DeviceError(
                f"no model {self._model} that is ready on {self._url}",
                expected="a model of the server's repository that it has loaded",
                do="read the server's log; the models are the folders of the repository, such as NAME_onnx",
            )

    def _asked(self, what: str, call: Callable[..., Any], *values: Any, **options: Any) -> Any:
        try:
            return call(*values, client_timeout=_TIMEOUT, **options)
        except self._error as error:
            gone = "UNAVAILABLE" in str(error)
            raise DeviceError(
                f"Triton server {self._url}, asked for {what}: {error}",
                expected="an answer",
                do="check that the server runs, and that this is HOST:PORT of its gRPC port (8001 by default)"
                if gone
                else "read the server's log",
            ) from error


def _checked_manifest(config: dict[str, Any], source: str) -> Manifest:
    """The manifest in the parameters of a model config. Raises ModelFileError where the tensors are not as it says."""
    text = config.get("parameters", {}).get(KEY, {}).get("string_value")
    if not text:
        raise ModelFileError(f"{source}, a model without a stylesdk manifest", do=_EXPORT)
    manifest = manifest_from_json(text, source)
    found = {
        tensor["name"]: (tensor["data_type"], [int(size) for size in tensor["dims"]])
        for tensor in (*config.get("input", []), *config.get("output", []))
    }
    expected = contract_tensors(manifest, batched=int(config.get("max_batch_size", 0)) > 0)
    if found != expected:
        raise ModelFileError(f"{source}, a model with the tensors {found}", expected=f"{expected}", do=_EXPORT)
    return manifest


def _new_region(size: int) -> SharedMemory:
    # Memory beyond the limit of /dev/shm is given all the same, and writing to it ends the process.
    if _SHARED.is_dir() and (free := shutil.disk_usage(_SHARED).free) < size:
        raise DeviceError(
            f"{free} bytes of shared memory left",
            expected=f"{size} bytes, for a frame and its result",
            do="start this container with a larger --shm-size, or open the backend with shared_memory=False",
        )
    try:
        return SharedMemory(create=True, size=size)
    except OSError as error:
        raise DeviceError(
            f"no shared memory ({error})", expected=f"{size} bytes", do="open the backend with shared_memory=False"
        ) from error


def _import_client() -> tuple[Any, type[Exception]]:
    """The module tritonclient.grpc, and the exception that it raises for everything."""
    try:
        client = importlib.import_module("tritonclient.grpc")
        utils = importlib.import_module("tritonclient.utils")
    except ImportError as error:
        raise MissingExtraError("tritonclient", "triton", "a Triton server") from error
    return client, utils.InferenceServerException
