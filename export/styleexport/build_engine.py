"""``python -m styleexport.build_engine REQUEST``: one TensorRT plan, built in a process of its own.

``stylesdk.engines.build`` starts it, so that a builder that crashes, hangs or eats the memory takes no picture down.
REQUEST is one object in JSON: ``model`` and ``plan``, paths; ``sha256`` of the model file; ``sizes``, three of
[height, width]; ``flavour``; ``targets``. An fp32 model becomes an fp16 plan.

Progress goes to stdout, a line of JSON each: ``{"phase": "Building", "done": 0.5}``. Errors go to stderr, with exit
status 1. The end of stdin, which comes when the parent dies too, ends the build.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.errors import ExportError
from stylesdk.errors import StyleSDKError
from stylesdk.manifest import read_model_file


def main() -> int:
    """Build what the only argument asks for; returns the exit status."""
    request = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _step_back()
    try:
        _build(request)
    except (ExportError, StyleSDKError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _build(request: dict[str, Any]) -> None:
    model = Path(request["model"])
    if hashlib.sha256(read_model_file(model)).hexdigest() != request["sha256"]:
        raise ExportError(
            f"got: {model}, changed after it was opened; expected: the same file.\nDo this: open it again."
        )
    least, usual, most = (tuple(size) for size in request["sizes"])
    engine_from_onnx(
        model,
        Path(request["plan"]),
        min_size=least,
        opt_size=usual,
        max_size=most,
        flavour=request["flavour"],
        precision="fp16",
        targets=request["targets"],
        progress=lambda phase, done: print(json.dumps({"phase": phase, "done": done}), flush=True),
    )


def _end_with_the_parent() -> None:
    # Not through sys.stdin, whose lock this thread would hold when the interpreter shuts down.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _step_back() -> None:
    """Leave the cores to the picture, and be the first that goes when memory runs out, where the system allows it."""
    with suppress(OSError, AttributeError):
        os.nice(10)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    sys.exit(main())
