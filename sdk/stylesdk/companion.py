"""The graphs that belong to a model: its encoder, picture -> code, and its chooser, photo -> code or mixing weights.

| tensor          | dtype, shape        | meaning                                                 |
|-----------------|---------------------|---------------------------------------------------------|
| frame (in)      | uint8 (1, H, W, 3)  | BGR, 0-255, any size                                    |
| style (out)     | float32 (K,)        | what the model's own input ``style`` takes              |

They are computed once and not for each frame: on the CPU, in fp32, by onnxruntime, else by OpenVINO.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stylesdk.errors import DeviceError, FrameError, MissingExtraError, ModelFileError, StyleError
from stylesdk.frames import Frame, checked
from stylesdk.latency import usable_cores
from stylesdk.manifest import Manifest, check_kind, read_model_file
from stylesdk.onnx_file import manifest_from_onnx

LONGEST = 1024  # pixels; a larger picture is scaled down: it would take gigabytes, and strokes are no finer
_SHORTEST = 16  # pixels
_EXPORT = "export the model again with `stylesdk export`, and copy its files together"

Values = NDArray[np.float32]
Graph = Callable[[Frame], Values]


class Companion:
    """The ``kind`` graph, encoder or chooser, of the model that ``manifest`` is of, from that model's folder.

    Raises:
        StyleError: the model has none.
        ModelFileError: its file is missing, damaged, of another export, or not in the contract above.
        MissingExtraError: neither onnxruntime nor OpenVINO is installed.
    """

    def __init__(self, kind: str, manifest: Manifest, folder: Path, threads: int | None = None) -> None:
        wanted = manifest.companions.get(kind)
        if wanted is None:
            raise StyleError(
                f"{_ASKED[kind]} for {manifest.name}, which has no {kind}",
                expected=f"one of {', '.join(manifest.styles)}",
                do=f"name a style, or train a recipe whose network has a style {kind}",
            )
        path = folder / f"{manifest.name}.{kind}.onnx"
        self._kind, self._path, self._length = kind, path, manifest.style_length
        if not path.is_file():
            raise ModelFileError(
                f"no file {path}", expected=f"the {kind} of {manifest.name}, beside the model", do=_EXPORT
            )
        data = read_model_file(path)
        own = manifest_from_onnx(data, str(path))
        check_kind(own, kind, str(path))
        if own.sha256 != wanted:
            raise ModelFileError(
                f"{path}, SHA-256 {own.sha256[:16]}…", expected=f"{wanted[:16]}…, of the model's own export", do=_EXPORT
            )
        self._graph = _opened(data, path, threads or usable_cores())

    def run(self, picture: object) -> Values:
        """What ``picture``, BGR uint8 (H, W, 3), 16 pixels a side and more, is as style: float32 (K,).

        Raises:
            StyleError: no such picture, or one of which the graph makes no finite numbers.
            FrameError: of a chooser, whose picture is the frame to be styled: no such frame.
            DeviceError: the runtime failed.
            ModelFileError: a result of another length.
        """
        found = np.asarray(self._graph(_fitting(picture, self._kind)))
        if found.shape != (self._length,):
            raise ModelFileError(f"{self._path}, which gives {found.shape}", expected=f"({self._length},)", do=_EXPORT)
        if not np.isfinite(found).all():
            raise StyleError(f"a picture of which {self._path.name} makes a NaN", expected="one with structure in it")
        return np.asarray(found, dtype=np.float32)


_ASKED = {"encoder": "a picture as style", "chooser": "style 'auto'"}


def _fitting(picture: object, kind: str) -> Frame:
    try:
        image = checked(picture)
    except FrameError as error:
        if kind == "chooser":
            raise
        raise StyleError(f"a style picture: {str(error).removeprefix('got: ')}") from error
    height, width = image.shape[:2]
    if min(height, width) < _SHORTEST:
        what = "photo to choose by" if kind == "chooser" else "style picture"
        raise StyleError(f"a {what} of {width}x{height}", expected=f"{_SHORTEST}x{_SHORTEST} or more")
    scale = LONGEST / max(height, width)
    if scale >= 1:
        return image
    size = (max(round(width * scale), _SHORTEST), max(round(height * scale), _SHORTEST))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _opened(data: bytes, path: Path, threads: int) -> Graph:
    try:
        import onnxruntime as ort
    except ImportError:
        return _on_openvino(data, path, threads)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False  # it would keep the memory of the largest picture for good
    options.log_severity_level = 3
    try:
        session: Any = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime raises its own classes for every kind of bad graph
        raise _refused(path, "onnxruntime", error) from error

    def run(picture: Frame) -> Values:
        try:
            values: Values = session.run(["style"], {"frame": picture[None]})[0]
        except Exception as error:  # its own classes again
            raise _failed(path, "onnxruntime", picture, error) from error
        return values

    return run


def _on_openvino(data: bytes, path: Path, threads: int) -> Graph:
    try:
        import openvino as ov
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "cpu", "styles from pictures") from error
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        core = ov.Core()
        compiled: Any = core.compile_model(core.read_model(data), "CPU", options)
    except RuntimeError as error:
        raise _refused(path, "OpenVINO", error) from error

    def run(picture: Frame) -> Values:
        try:
            return np.array(compiled({"frame": picture[None]})["style"], np.float32)
        except RuntimeError as error:
            raise _failed(path, "OpenVINO", picture, error) from error

    return run


def _refused(path: Path, runtime: str, error: Exception) -> ModelFileError:
    return ModelFileError(f"{path}, which {runtime} refuses: {error}", do=_EXPORT)


def _failed(path: Path, runtime: str, picture: Frame, error: Exception) -> DeviceError:
    return DeviceError(
        f"{runtime} failed in {path.name} on a picture of {picture.shape}: {error}",
        expected="the picture's style",
        do="try a larger picture",
    )
