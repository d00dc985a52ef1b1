"""What is documented is executed: the README's Python, its commands, every relative link."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_first_block_is_the_two_commands() -> None:
    install, test = blocks("sh")[0].splitlines()
    assert install == "python -m pip install -e '.[cpu]' && stylesdk demo"
    assert test == "python -m pip install -e '.[dev]' && pytest"


def test_python_of_the_readme_runs(tmp_path: Path, frame: np.ndarray) -> None:
    code = "\n".join(blocks("python"))
    cv2.imwrite(str(tmp_path / "photo.jpg"), frame)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "styled.jpg")).shape == frame.shape


def test_every_command_of_the_readme_exists() -> None:
    commands = set(re.findall(r"stylesdk (demo|[a-z]+)(?= |`|\n)", " ".join(re.findall(r"`stylesdk [^`]*`", README))))
    listed = subprocess.run(
        [sys.executable, "-m", "stylesdk.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert len(commands) >= 7
    for command in commands:
        assert f" {command} " in listed, command


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("*/*.md")) + sorted(ROOT.glob("sdk/*/*/*.md"))
)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), target


def test_version_is_one() -> None:
    import stylesdk

    assert f'version = "{stylesdk.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## [{stylesdk.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
