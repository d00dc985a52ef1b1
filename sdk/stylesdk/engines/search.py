"""Finds or builds one plan on a thread of its own, while frames go on."""

from __future__ import annotations

import atexit
import dataclasses
import os
import threading
from collections import deque
from pathlib import Path

from stylesdk.backends.plan_file import sidecar_of
from stylesdk.backends.tensorrt import TensorRTBackend
from stylesdk.engines.build import Progress, build_plan
from stylesdk.engines.cache import ACCURACY, open_kept, remove
from stylesdk.engines.gate import check_accuracy, figures
from stylesdk.engines.key import EngineKey
from stylesdk.engines.lock import Cancelled, locked
from stylesdk.errors import DeviceError, EngineMismatchError, ModelFileError
from stylesdk.frames import Frame
from stylesdk.manifest import Manifest

_PHOTOS = 4


@dataclasses.dataclass(frozen=True)
class Model:
    """An ONNX file that was opened: where it is, what it held then, and its manifest."""

    path: Path
    data: bytes
    manifest: Manifest


class PlanSearch:
    """A plan on its way: kept already, being built by another process, or to be built here.

    Args:
        model: what the plan is to compute.
        plan: where it is kept, or will be.
        key: what it is for.
        progress: called on the search's thread.
    """

    def __init__(self, model: Model, plan: Path, key: EngineKey, progress: Progress | None) -> None:
        self.size = key.size
        self._model, self._plan, self._key, self._progress = model, plan, key, progress
        self._photos: deque[Frame] = deque(maxlen=_PHOTOS)
        self._seen = 0
        self._cancelled = threading.Event()
        self._found: TensorRTBackend | None = None
        self._failure: Exception | None = None
        # A daemon: a program that ends does not wait for a build. At its end, and before CUDA's, the search is ended.
        self._thread = threading.Thread(target=self._run, name=f"building {plan.name}", daemon=True)
        atexit.register(self.cancel)
        self._thread.start()

    def show(self, photo: Frame) -> None:
        """Remember some of the frames, (H, W, 3), that come in meanwhile, for the accuracy gate."""
        self._seen += 1
        # The 1st, 2nd, 4th, 8th, ...: neighbours in a video say the same.
        if self._seen & (self._seen - 1) == 0 and photo.shape[:2] == self.size:
            self._photos.append(photo.copy())

    @property
    def done(self) -> bool:
        """True when ``result`` does not wait."""
        return not self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False after ``timeout`` seconds."""
        self._thread.join(timeout)
        return self.done

    def result(self) -> TensorRTBackend:
        """The plan, open; it is the caller's. Waits for it.

        Raises:
            StyleSDKError: why there is none.
        """
        self._thread.join()
        atexit.unregister(self.cancel)
        if self._found is None:
            raise self._failure or Cancelled()
        return self._found

    def cancel(self) -> None:
        """End it: no child, no lock and no open plan are left. May be called twice."""
        self._cancelled.set()
        self._thread.join()
        atexit.unregister(self.cancel)
        found, self._found = self._found, None
        if found is not None:
            found.close()

    def _run(self) -> None:
        try:
            with locked(self._plan.with_suffix(".lock"), self._cancelled):
                self._found = self._kept() or self._built()
        except OSError as error:
            self._failure = DeviceError(
                f"{error}",
                expected=f"room in {self._plan.parent} for a TensorRT plan, and the right to write there",
                do="free some room, or set XDG_CACHE_HOME to another folder",
            )
        except Exception as error:  # noqa: BLE001  # raised again by ``result``, on the caller's thread
            self._failure = error

    def _kept(self) -> TensorRTBackend | None:
        """What another process has built while this one waited for the lock."""
        try:
            return open_kept(self._plan, self._key)
        except (EngineMismatchError, ModelFileError):
            return None

    def _built(self) -> TensorRTBackend:
        remove(self._plan)
        try:
            build_plan(self._model.path, self._plan, self._key, self._progress, self._cancelled)
            opened = self._opened()
            try:
                self._check(opened)
            except BaseException:
                opened.close()
                raise
        except BaseException:
            remove(self._plan)
            raise
        return opened

    def _opened(self) -> TensorRTBackend:
        try:
            return TensorRTBackend(self._plan, device="cuda")
        except EngineMismatchError as error:
            raise DeviceError(
                f"a plan that {self._key.flavour} {self._key.version} has built for {self._key.gpu} just now, and "
                f"does not run there:\n{error}",
                expected="a GPU that this TensorRT supports",
                do="use runtime='onnxruntime', or another TensorRT: stylesdk[tensorrt] or stylesdk[rtx]",
            ) from error

    def _check(self, opened: TensorRTBackend) -> None:
        """Pass the gate; only then the sidecar says what the plan is for, and the plan counts as there."""
        photos = tuple(self._photos)
        found = check_accuracy(opened, self._model.data, self._model.manifest, photos, self._cancelled)
        assert opened.manifest is not None
        quality = opened.manifest.quality | {ACCURACY: figures(found)}
        opened.manifest = dataclasses.replace(opened.manifest, engine=self._key.engine, quality=quality)
        sidecar = sidecar_of(self._plan)
        part = self._plan.with_name(f".{sidecar.name}.{os.getpid()}.part")
        part.write_text(opened.manifest.to_json(), encoding="utf-8")
        part.replace(sidecar)
