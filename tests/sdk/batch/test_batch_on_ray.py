"""A batch on a real Ray cluster of two workers equals one process, also when workers are killed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import deadly_folder
import pytest
import ray
from batches import IMAGES, MODEL, assert_same_trees, clip, decoded, job, photo, tree

from stylesdk.batch import Summary, run_batch
from stylesdk.batch.on_ray import results_on_ray
from stylesdk.errors import DeviceError, StyleSDKError

pytestmark = [
    # Ray 2.60 asks its own settings for names that it has given up itself.
    pytest.mark.filterwarnings("ignore:`use_:DeprecationWarning:ray.data.context"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


def actors() -> list[int]:
    """Processes of this process's cluster that style: children of its raylet."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_text()
            if words.startswith("ray::") and "Actor" in words and _parent(_parent(int(entry.name))) == os.getpid():
                found.append(int(entry.name))
        except (OSError, ValueError):  # it ended meanwhile, or is no process
            continue
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def run_and_kill(when: Callable[[], bool], *given: object) -> tuple[Summary, int]:
    """Run a batch on two workers, kill one of them with SIGKILL when ``when`` says so."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_batch, *given, ray=True, workers=2)
        while not when():
            assert not running.done(), running.result()
            time.sleep(0.001)
        killed = actors()[0]
        os.kill(killed, signal.SIGKILL)
        return running.result(timeout=250), killed


def test_two_workers_equal_one_process(many: Path, styled: Path, tmp_path: Path) -> None:
    """As a user types it: Ray starts and stops with the command. What is broken fails alone."""
    words = [f"{many}/**/*.*", "-o", "out", "-s", MODEL, "--ray", "--workers", "2"]
    line = [sys.executable, "-m", "stylesdk.cli", "batch", *words]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{IMAGES + 3} styled, 0 there already, 0 failed -> {tmp_path / 'out'}\n"
    assert "Traceback" not in done.stderr and "Dataset" not in done.stderr
    assert_same_trees(styled, tmp_path / "out")


def test_a_worker_killed_midway_loses_nothing(many: Path, styled: Path, tmp_path: Path, cluster: None) -> None:
    made: list[int] = []

    def midway() -> bool:
        made.append(len(list((tmp_path / "out").glob("a/*.*"))))
        return made[-1] >= 10

    summary, killed = run_and_kill(midway, *job(many, tmp_path / "out"))
    assert 10 <= made[-1] < IMAGES // 2
    assert not Path(f"/proc/{killed}").exists()
    assert (summary.done, summary.skipped, summary.failed) == (IMAGES + 3, 0, {})
    assert_same_trees(styled, tmp_path / "out")


def test_a_worker_killed_in_a_video_leaves_no_half_of_it(tmp_path: Path, cluster: None) -> None:
    """In a bucket, whose files are made in the machine's temporary folder."""
    clip(tmp_path / "in" / "a.mp4", frames=1500)
    given, files = job(tmp_path / "in", f"local://{tmp_path}/out")
    scratch = given.output.scratch("a.mp4")

    def encoding() -> bool:
        return any(path.stat().st_size for path in scratch.glob("0/.*.mp4"))

    summary, _ = run_and_kill(encoding, given, files)
    assert (summary.done, summary.failed) == (1, {})
    assert len(decoded(tmp_path / "out" / "a.mp4")) == 1500
    assert tree(tmp_path / "out") == {"a.mp4"}
    assert not scratch.exists()


def test_a_file_that_kills_its_workers_fails_alone(tmp_path: Path, cluster: None) -> None:
    for name in ("a.png", "deadly.png", "z.png"):
        photo(tmp_path / "in" / name)
    given, files = job(tmp_path / "in", tmp_path / "out")
    ray.cloudpickle.register_pickle_by_value(deadly_folder)  # no worker finds a module of the tests
    given = replace(given, source=deadly_folder.DeadlyFolder(str(tmp_path / "in")))
    summary = run_batch(given, files, ray=True, workers=2)
    assert (summary.done, list(summary.failed)) == (2, ["deadly.png"])
    assert "3 workers died on this file" in summary.failed["deadly.png"]
    assert tree(tmp_path / "out") == {"a.png", "z.png"}
    assert not list((tmp_path / "out").rglob(".*"))


def test_errors_are_those_of_one_process(tmp_path: Path, cluster: None) -> None:
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in/bad.jpg").write_bytes(b"no image")
    (tmp_path / "in/bad.mp4").write_bytes(b"no video")
    alone = run_batch(*job(tmp_path / "in", tmp_path / "one"))
    assert len(alone.failed) == 2
    assert run_batch(*job(tmp_path / "in", tmp_path / "two"), ray=True) == alone
    assert_same_trees(tmp_path / "one", tmp_path / "two")


def test_a_model_that_no_worker_opens_ends_the_run(tmp_path: Path, cluster: None) -> None:
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(StyleSDKError, match=r"(?s)cannot open .*bad\.onnx.*an intact ONNX file"):
        run_batch(*job(tmp_path / "in", tmp_path / "out", model=str(tmp_path / "bad.onnx")), ray=True)
    assert tree(tmp_path / "out") == set()


def test_no_gpu_is_an_error_never_a_silent_cpu(tmp_path: Path, cluster: None) -> None:
    photo(tmp_path / "in" / "a.png")
    for options in ({"device": "cuda"}, {"model": "engine.plan"}):
        with pytest.raises(DeviceError, match="a Ray cluster without a GPU"):
            list(results_on_ray(*job(tmp_path / "in", tmp_path / "out", **options), None))


def in_other_process(code: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=os.environ | environment, check=False
    )
    return done.stderr


def test_no_ray_and_no_cluster(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    code = "import sys; from stylesdk.cli import main; sys.argv = 'stylesdk batch in -o out --ray'.split(); "
    without = in_other_process(f"{code} sys.modules['ray'] = None; main()", tmp_path)
    assert "pip install 'stylesdk[ray]'" in without and "Traceback" not in without
    nowhere = in_other_process(f"{code} main()", tmp_path, RAY_ADDRESS="nonsense")
    assert "the Ray cluster at nonsense" in nowhere and "check RAY_ADDRESS" in nowhere
    assert "Traceback" not in nowhere
