"""A whole batch: what is there is skipped, the rest styled, and what failed is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

from stylesdk.batch.plan import File
from stylesdk.batch.worker import Job, Result, Worker


@dataclass(frozen=True)
class Summary:
    """How a batch went: files styled, files that were there already, and what was wrong with the others, by name."""

    done: int
    skipped: int
    failed: dict[str, str]


def run_batch(
    job: Job,
    files: list[File],
    *,
    overwrite: bool = False,
    ray: bool = False,
    workers: int | None = None,
    on_result: Callable[[Result, int], None] | None = None,
) -> Summary:
    """Style ``files``; those whose output is there are skipped, for an output that is there is whole.

    One run at a time for one output: what earlier ones left half-done is removed, before and after.

    Args:
        job: where from, where to, and how.
        files: from ``plan_batch``.
        overwrite: style them all again.
        ray: on Ray, with one Stylizer per worker, instead of in this process.
        workers: of Ray, None for what the cluster has room for.
        on_result: called after each file that is not skipped, also with the number of these.

    Raises:
        ModelFileError, DeviceError, MissingExtraError, StyleError: as Stylizer; nothing is lost, and the same call
            goes on. What is wrong with one file is in the summary instead.
        StyleSDKError: the Ray cluster cannot be reached, or failed.
    """
    outputs = [file.output for file in files]
    job.output.clear(outputs)
    there = set() if overwrite else job.output.present(outputs)
    wanted = [file for file in files if file.output not in there]
    errors: dict[str, str] = {}
    try:
        with closing(_results(job, wanted, ray, workers)) as results:
            for result in results:
                errors[result.name] = result.error
                if on_result is not None:
                    on_result(result, len(wanted))
    finally:
        job.output.clear(outputs)
    failed = {name: error for name, error in sorted(errors.items()) if error} | _missing(job, wanted, errors)
    return Summary(len(wanted) - len(failed), len(files) - len(wanted), failed)


def _results(job: Job, files: list[File], ray: bool, workers: int | None) -> Generator[Result, None, None]:
    if not files:
        return
    if ray:
        from stylesdk.batch.on_ray import results_on_ray

        yield from results_on_ray(job, files, workers)
        return
    with closing(Worker(job)) as worker:
        for file in files:
            yield worker.style(file)


def _missing(job: Job, files: list[File], errors: dict[str, str]) -> dict[str, str]:
    # A worker on another machine writes to its own disk, where the output is no folder that they share.
    there = job.output.present(file.output for file in files)
    gone = "got: no output, though its worker wrote one\ndo this: use a folder that every machine shares, or a bucket"
    return {file.name: gone for file in files if not errors.get(file.name) and file.output not in there}
