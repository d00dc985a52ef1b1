"""Who may import whom, and what the public door shows."""

from __future__ import annotations

import inspect
import subprocess
import sys

import stylesdk

BLOCKED = (
    "fsspec",
    "grpc",
    "ray",
    "tritonclient",
    "torch",
    "onnx",
    "tensorrt",
    "tensorrt_rtx",
    "pycuda",
    "onnxscript",
    "safetensors",
    "lightning_fabric",
)


def in_clean_interpreter(code: str, blocked: tuple[str, ...]) -> str:
    """Run ``code`` where the ``blocked`` packages cannot be imported, warnings as errors; return its output."""
    guard = (
        "import sys\n"
        "class Block:\n"
        f"    names = {blocked!r}\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in self.names:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", guard + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sdk_styles_a_frame_without_training_packages() -> None:
    code = (
        "import numpy as np, stylesdk, pkgutil, importlib\n"
        "for m in pkgutil.walk_packages(stylesdk.__path__, 'stylesdk.'):\n"
        "    importlib.import_module(m.name)\n"
        "out = stylesdk.Stylizer('starry_night').run(np.full((50, 70, 3), 99, np.uint8))\n"
        "print(out.shape)\n"
    )
    assert in_clean_interpreter(code, BLOCKED).strip() == "(50, 70, 3)"


def test_importing_the_sdk_imports_no_runtime() -> None:
    code = "import sys, stylesdk; print([m for m in ('onnxruntime', 'av', 'typer', 'rich') if m in sys.modules])"
    assert in_clean_interpreter(code, ()).strip() == "[]"


def test_missing_extras_name_the_pip_line() -> None:
    for package, extra, code in (
        ("onnxruntime", "cpu", "stylesdk.Stylizer('starry_night', runtime='onnxruntime')"),
        ("openvino", "openvino", "stylesdk.Stylizer('starry_night', runtime='openvino')"),
        ("av", "live", "from stylesdk.live import open_source; list(open_source('x.mp4'))"),
    ):
        body = (
            "import stylesdk, pathlib, tempfile, os\n"
            "os.chdir(tempfile.mkdtemp()); pathlib.Path('x.mp4').write_bytes(b'0' * 100)\n"
            f"try:\n    {code}\n"
            "except stylesdk.MissingExtraError as error:\n    print(error)\n"
        )
        assert f"pip install 'stylesdk[{extra}]'" in in_clean_interpreter(body, (package,))


def test_train_and_export_name_their_extra() -> None:
    for command, extra, package in (("train", "train", "safetensors"), ("export", "export", "onnx")):
        code = (
            "import sys\n"
            "from stylesdk.cli import main\n"
            "import io, contextlib, os, pathlib, tempfile\n"
            "os.chdir(tempfile.mkdtemp()); os.mkdir('x'); pathlib.Path('x/config.json').write_text('{}')\n"
            f"sys.argv = ['stylesdk', {command!r}, 'x', '-o', 'y', '--photos', 'z']\n"
            "errors = io.StringIO()\n"
            "with contextlib.redirect_stderr(errors):\n"
            "    try:\n        main()\n"
            "    except SystemExit as stop:\n        print(stop.code)\n"
            "print(errors.getvalue())\n"
        )
        output = in_clean_interpreter(code, ("torch", package))
        assert output.startswith("1"), output
        assert f"stylesdk[{extra}]" in output


def test_public_door() -> None:
    assert list(stylesdk.__all__) == sorted(stylesdk.__all__)
    for name in stylesdk.__all__:
        member = getattr(stylesdk, name)
        if name != "__version__":
            assert inspect.getdoc(member), name
