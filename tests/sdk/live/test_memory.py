"""Arenas of glibc's malloc, counted by itself."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

_CODE = """
import ctypes, sys, threading
from stylesdk.live.memory import keep_memory_flat
if sys.argv[1] == "few":
    keep_memory_flat()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(9)
def work():
    libc.malloc(1000)
    together.wait(30)
    together.wait(30)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
together.wait(30)
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
together.wait(30)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_share_one_arena(tmp_path: Path) -> None:
    arenas = {}
    for mode in ("few", "default"):
        output = tmp_path / mode
        subprocess.run([sys.executable, "-c", _CODE, mode, str(output)], check=True, timeout=60)
        arenas[mode] = output.read_text(encoding="ascii").count("<heap nr=")
    assert arenas["few"] == 1 < arenas["default"]


_HOLES = """
import ctypes, psutil
from stylesdk.live.memory import trim
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
rss = lambda: psutil.Process().memory_info().rss / 2**20
blocks = [libc.malloc(100_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:  # the last one keeps the heap from shrinking
    libc.free(block)
before = rss()
trim()
print(before - rss())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="holes are glibc's")
def test_holes_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _HOLES], check=True, timeout=60, capture_output=True, text=True)
    assert float(done.stdout) > 80
