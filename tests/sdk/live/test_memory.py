"""Arenas of glibc's malloc, counted by itself."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

_CODE = """
import ctypes, sys, threading
from stylesdk.live.memory import keep_arenas_few
if sys.argv[1] == "few":
    keep_arenas_few()
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
def test_threads_share_two_arenas(tmp_path: Path) -> None:
    arenas = {}
    for mode in ("few", "default"):
        output = tmp_path / mode
        subprocess.run([sys.executable, "-c", _CODE, mode, str(output)], check=True, timeout=60)
        arenas[mode] = output.read_text(encoding="ascii").count("<heap nr=")
    assert arenas["few"] <= 2 < arenas["default"]
