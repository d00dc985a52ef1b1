"""A batch on Ray Data: one Stylizer per actor, on this machine or on a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from stylesdk.batch.plan import File
from stylesdk.batch.worker import Job, Result, Worker
from stylesdk.errors import DeviceError, MissingExtraError, StyleSDKError
from stylesdk.mix import split_style

_BLOCKS = 2000  # units of work: one file each up to here, so that little is repeated when a worker dies
_OBJECT_STORE = 128 << 20  # bytes; only names travel through it

Row = dict[str, Any]


class Actor:
    """A Worker for rows of Ray. A model that cannot be opened is a result too: Ray would only say that it died."""

    def __init__(self, job: Job) -> None:
        self._worker: Worker | None = None
        self._broken = ""
        try:
            self._worker = Worker(job)
        except StyleSDKError as error:
            self._broken = str(error)

    def __call__(self, row: Row) -> Row:
        """``name`` and ``output`` in; ``name``, ``error``, and whether that ends the batch, out."""
        if self._worker is None:
            return {"name": row["name"], "error": self._broken, "fatal": True}
        result = self._worker.style(File(row["name"], row["output"]))
        return {"name": result.name, "error": result.error, "fatal": False}


def results_on_ray(job: Job, files: list[File], workers: int | None) -> Iterator[Result]:
    """Style ``files`` on the cluster at ``RAY_ADDRESS``, or on one that is started here; results as they come.

    A worker takes ``job.threads`` CPUs, 1 by default, and a GPU with device ``cuda`` or a TensorRT plan.
    A killed worker is started again, and its file with it.

    Args:
        job: its folders and its model must be in the same place on every machine of the cluster.
        files: what to style.
        workers: how many; None for as many as the cluster has CPUs or GPUs for.

    Raises:
        MissingExtraError: no Ray.
        DeviceError: no GPU in the cluster, where one is needed.
        StyleSDKError: the cluster cannot be reached, or a worker cannot open the model.
    """
    ray = _ray()
    on_gpu = job.device == "cuda" or split_style(job.model)[0].endswith((".plan", ".engine"))
    threads = job.threads or 1
    # A GPU that Ray did not lend is another's: nothing is found there by accident.
    device = job.device if on_gpu or job.device != "auto" else "cpu"
    job = replace(job, threads=threads, device=device)
    with _cluster(ray, workers * threads if workers else None):
        count = min(workers or _room(ray, threads, on_gpu), len(files))
        rows = [{"name": file.name, "output": file.output} for file in files]
        dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS)).map(
            Actor,
            fn_constructor_args=(job,),
            # One unit at a time: none waits behind a long video while another worker is idle.
            compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
            num_cpus=threads,
            num_gpus=1 if on_gpu else 0,
        )
        with closing(_rows(ray, dataset)) as done:
            for row in done:
                if row["fatal"]:
                    raise StyleSDKError(f"a worker cannot open {job.model}\n{row['error']}")
                yield Result(row["name"], row["error"])


def _ray() -> Any:
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise MissingExtraError(error.name or "ray", "ray", "`stylesdk batch --ray`") from error
    return ray


def _room(ray: Any, threads: int, on_gpu: bool) -> int:
    has = ray.cluster_resources()
    if on_gpu and has.get("GPU", 0) < 1:
        raise DeviceError("a Ray cluster without a GPU", expected="one GPU a worker", do="use --device cpu")
    return max(int(has["GPU"] if on_gpu else has.get("CPU", 1) // threads), 1)


@contextmanager
def _cluster(ray: Any, cpus: int | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    options: Row = {}
    if address == "local":
        # Nobody was asked whether figures of use may be sent; and what Ray has to say is in its log files.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        options = {"num_cpus": cpus, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise StyleSDKError(
            f"the Ray cluster at {address}: {error}", do="check RAY_ADDRESS; without it, Ray starts on this machine"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _rows(ray: Any, dataset: Any) -> Generator[Row, None, None]:
    context, logger = dataset.context, logging.getLogger("ray.data")
    context.enable_progress_bars = False
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield from dataset.iter_rows()
    except ray.exceptions.RayError as error:
        raise StyleSDKError(
            f"Ray gave up: {type(error).__name__}: {error}", do="the same command goes on where this one stopped"
        ) from error
    finally:
        logger.setLevel(level)
