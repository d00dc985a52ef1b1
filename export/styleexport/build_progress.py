"""Progress of a TensorRT build, and its end from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[str, float], None]  # phase of the build, share of it that is done


def progress_monitor(trt: Any, progress: Progress) -> Any:
    """An ``IProgressMonitor`` of ``trt`` that reports the build's steps to ``progress``.

    An exception of ``progress`` must not pass through TensorRT: it is kept as ``failure``, and the build ends.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.failure: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self.steps[phase_name] = num_steps
            self._report(phase_name, 0.0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._report(phase_name, (step + 1) / max(self.steps.get(phase_name, 1), step + 1))

        def phase_finish(self, phase_name: str) -> None:
            self._report(phase_name, 1.0)

        def _report(self, phase: str, done: float) -> bool:
            try:
                progress(phase, done)
            except BaseException as error:  # noqa: BLE001  # Ctrl-C too; raised again after the build
                self.failure = self.failure or error
            return self.failure is None

    return Monitor()
