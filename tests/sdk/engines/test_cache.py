"""The folder of the plans, the names in it, and the lock; no GPU, not even a pretended one."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import stylesdk.engines.lock as lock
from stylesdk.engines.cache import cache_folder, kept, plan_path, private_cache_folder, remove
from stylesdk.engines.key import EngineKey
from stylesdk.engines.lock import Cancelled, locked
from stylesdk.errors import DeviceError

KEY = EngineKey("a" * 64, "fp16", "tensorrt_rtx", "1.7.1.116", "NVIDIA T4", "7.5", "13.0", (720, 1280))
unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes and owners of this kind")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@unix
def test_made_for_the_user_alone_whatever_the_umask(home):
    before = os.umask(0)
    try:
        folder = private_cache_folder()
    finally:
        os.umask(before)
    assert folder == home / "stylesdk" / "engines" == cache_folder()
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert private_cache_folder() == folder


@unix
def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for named in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        assert cache_folder() == tmp_path / ".cache" / "stylesdk" / "engines"


@unix
@pytest.mark.parametrize("which", ["stylesdk", "stylesdk/engines"])
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(home, which, mode):
    private_cache_folder()
    (home / which).chmod(mode)
    with pytest.raises(DeviceError, match=rf"(?s)mode {mode:o}.*chmod 700 '{home / which}'"):
        private_cache_folder()
    (home / which).chmod(0o755)
    private_cache_folder()


@unix
@pytest.mark.parametrize("which", ["stylesdk", "stylesdk/engines"])
def test_a_link_to_elsewhere_is_refused(home, which, tmp_path):
    (home / which).parent.mkdir(parents=True, mode=0o700)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (home / which).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceError, match=r"(?s)symbolic link.*rm '"):
        private_cache_folder()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@unix
def test_a_folder_of_somebody_else_is_refused(home, monkeypatch):
    private_cache_folder()
    monkeypatch.setattr("stylesdk.private_folder.os.getuid", lambda: os.stat(home).st_uid + 1)
    with pytest.raises(DeviceError, match=r"(?s)belongs to user.*XDG_CACHE_HOME"):
        private_cache_folder()


def test_a_file_in_the_way(home):
    home.mkdir()
    (home / "stylesdk").write_text("")
    with pytest.raises(DeviceError, match="no folder"):
        private_cache_folder()
    (home / "stylesdk").unlink()
    home.rmdir()
    home.write_text("")
    with pytest.raises(DeviceError, match="XDG_CACHE_HOME"):
        private_cache_folder()


OTHERS = {
    "onnx_sha256": "b" * 64,
    "precision": "int8",
    "flavour": "tensorrt",
    "version": "1.7.1.117",
    "gpu": "NVIDIA L4",
    "compute_capability": "8.9",
    "driver": "13.1",
    "size": (1280, 720),
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EngineKey)])
def test_every_field_is_in_the_key_and_in_the_sidecar(field):
    from stylesdk.manifest import Manifest

    other = dataclasses.replace(KEY, **{field: OTHERS[field]})
    assert other.name != KEY.name == dataclasses.replace(KEY).name
    sidecar = Manifest("it", ("it",), 1, KEY.precision, "x", engine=KEY.engine)
    sidecar = dataclasses.replace(sidecar, min_size=KEY.size, opt_size=KEY.size, max_size=KEY.size)
    assert KEY.differences(sidecar) == []
    told = other.differences(sidecar)
    assert told and all(field in each or field in ("size", "compute_capability", "flavour") for each in told)
    assert KEY.differences(dataclasses.replace(sidecar, engine=None))


def test_a_size_below_what_a_plan_takes():
    assert KEY.resized((1, 40)).size == (16, 40)
    assert KEY.resized((480, 640)).name != KEY.name


def test_the_name_of_a_plan_is_a_plain_one(tmp_path):
    path = plan_path(tmp_path, Path("/x/wave; rm -rf *\n.int8.onnx"), KEY)
    assert path.parent == tmp_path
    assert path.name == f"wave__rm_-rf___.int8-{KEY.name}.plan"
    assert len(plan_path(tmp_path, Path("x" * 250 + ".onnx"), KEY).name) < 100


def test_remove_takes_what_belongs_to_a_plan_and_nothing_else(tmp_path):
    plan = plan_path(tmp_path, Path("wave.onnx"), KEY)
    ours = [plan.name, f"{plan.name}.json", f"{plan.name}.cache", f".{plan.name}.7.part", f".{plan.name}.json.7.part"]
    others = ["other.plan", "other.plan.json", ".other.plan.7.part", f"x{plan.name}"]
    for name in ours + others:
        (tmp_path / name).write_text("x")
    remove(plan)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    remove(plan)


def test_what_is_kept_in_words(home):
    assert kept().startswith("0 in ")
    (private_cache_folder() / "a.plan").write_bytes(bytes(2_500_000))
    assert kept() == f"1 in {home / 'stylesdk' / 'engines'}, 2.5 MB"


def test_one_holder_at_a_time_and_no_file_left(tmp_path):
    inside, most, never = [], [], threading.Event()

    def work():
        for _ in range(20):
            with locked(tmp_path / "it.lock", never):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert list(tmp_path.iterdir()) == []


@unix
def test_a_lock_on_a_file_that_its_holder_has_removed_is_none(tmp_path, monkeypatch):
    """Between opening the file and locking it, its holder removes it, and somebody else makes it anew."""
    path, take, calls = tmp_path / "it.lock", lock._try_lock, []

    def too_late(handle):
        calls.append(handle)
        if len(calls) == 1:
            path.unlink()
            path.touch()
        return take(handle)

    monkeypatch.setattr(lock, "_try_lock", too_late)
    with locked(path, threading.Event()):
        cancelled = threading.Event()
        threading.Timer(0.3, cancelled.set).start()
        with pytest.raises(Cancelled), locked(path, cancelled):
            raise AssertionError("two holders")


def test_who_waits_can_be_called_off(tmp_path):
    cancelled = threading.Event()
    with locked(tmp_path / "it.lock", threading.Event()):
        threading.Timer(0.3, cancelled.set).start()
        with pytest.raises(Cancelled), locked(tmp_path / "it.lock", cancelled):
            raise AssertionError("two holders")
    with locked(tmp_path / "it.lock", threading.Event()):
        pass


def test_a_lock_that_a_dead_process_left_blocks_nobody(tmp_path):
    hold = (
        "import sys, threading, os, pathlib; from stylesdk.engines.lock import locked\n"
        f"with locked(pathlib.Path({str(tmp_path / 'it.lock')!r}), threading.Event()):\n"
        "    os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", hold], check=True)
    assert (tmp_path / "it.lock").exists()
    with locked(tmp_path / "it.lock", threading.Event()):
        pass
