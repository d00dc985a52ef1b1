"""One file of a batch, styled by one Stylizer; in this process, or in an actor of Ray."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stylesdk.batch.places import Place, said
from stylesdk.batch.plan import File
from stylesdk.errors import StyleSDKError
from stylesdk.live import Look, open_sink, open_source, run_pipeline
from stylesdk.stylizer import Stylizer

_DEATHS = 3  # of workers on one file, after which the file is to blame


@dataclass(frozen=True)
class Job:
    """What is the same for every file of a batch.

    Args:
        source: where files are read.
        output: where they are written.
        model: as in Stylizer; so are ``device``, ``runtime`` and ``threads``.
        look: how frames are styled; ``smoothing`` acts on videos only.
    """

    source: Place
    output: Place
    model: str
    device: str = "auto"
    runtime: str | None = None
    threads: int | None = None
    look: Look = field(default_factory=Look)


@dataclass(frozen=True)
class Result:
    """How it went with the file ``name``: ``error`` says what was wrong, and is empty where nothing was."""

    name: str
    error: str = ""


class Worker:
    """A Stylizer, and the way of files through it. Raises as Stylizer does."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stylizer = Stylizer(job.model, device=job.device, runtime=job.runtime, threads=job.threads)

    def style(self, file: File) -> Result:
        """Style ``file``. It appears under its name only when it is whole; an error is in the result."""
        job = self._job
        try:
            with _scratch(job.output.scratch(file.output)) as folder:
                source = open_source(str(job.source.fetch(file.name, folder)))
                styled = folder / f"styled{Path(file.output).suffix.lower()}"
                try:
                    sink = open_sink(str(styled), source)
                except BaseException:
                    source.close()
                    raise
                run_pipeline(source, self._stylizer, sink, look=job.look)
                job.output.put(styled, file.output)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other files are still to be done
            return Result(file.name, said(error))
        return Result(file.name)

    def close(self) -> None:
        """Free the runtime."""
        self._stylizer.close()


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new private folder in ``folder``, gone afterwards with it.

    Only a worker that was killed leaves one. So what is there counts the deaths on this file, and a file
    that kills every worker does not keep the batch busy for ever.
    """
    try:
        deaths = len(list(folder.iterdir())) if folder.is_dir() else 0
        if deaths >= _DEATHS:
            raise StyleSDKError(
                f"{deaths} workers died on this file",
                expected="a file that can be styled in the memory of this machine",
                do="try it alone, with `stylesdk run`",
            )
        attempt = folder / str(deaths)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        attempt.mkdir(mode=0o700)
        yield attempt
    finally:
        shutil.rmtree(folder, ignore_errors=True)
