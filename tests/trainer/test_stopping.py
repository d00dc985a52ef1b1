"""--stop-when-good: where the plateau is found, how the rate falls then, exact resume; and the early sheet."""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from lightning_fabric import Fabric
from runs import Settings, assert_same_weights, run, stats

from styletrainer.config import config_from_dict
from styletrainer.errors import TrainError
from styletrainer.recipe import Turn
from styletrainer.run import loop
from styletrainer.run.checkpoint import load_checkpoint
from styletrainer.run.stopping import Stopping, judged


@pytest.fixture
def stopping() -> Stopping:
    return Stopping(4, Fabric(accelerator="cpu", devices=1))


def feed(stopping: Stopping, losses: list[float], first: int = 1) -> None:
    for step, loss in enumerate(losses, first):
        stopping.add([torch.tensor(loss)], step)


def test_plateau_is_a_window_without_gain(stopping: Stopping) -> None:
    """Means of four: 10, 8, 7.9 (1.25 % less), 7.85 (0.6 % less): the fourth gains nothing."""
    feed(stopping, [11, 9, 12, 8] + [8] * 4 + [7.9] * 4 + [9.85, 5.85, 7.85])
    assert stopping.plateau is None and stopping.best == pytest.approx(7.9)
    feed(stopping, [7.85], 16)
    assert stopping.plateau == 16 and stopping.end == 20
    assert "was 7.9 and is 7.85, not 1% less, after 4 more steps" in stopping.why


def test_a_loss_that_falls_has_no_plateau(stopping: Stopping) -> None:
    feed(stopping, [10 * 0.98**step for step in range(100)])
    assert stopping.plateau is None
    feed(stopping, [1000.0] * 4, 101)
    assert stopping.plateau == 104


def test_negative_losses_fall_too(stopping: Stopping) -> None:
    feed(stopping, [-1.0] * 4 + [-1.1] * 4)
    assert stopping.plateau is None
    feed(stopping, [-1.105] * 4, 9)
    assert stopping.plateau == 12


def test_rate_holds_then_falls(stopping: Stopping) -> None:
    """Without a plateau over the last fifth of the budget; with one over a quarter of the steps before it."""
    assert [stopping.fallen(0, done) for done in (0.0, 0.8, 0.9, 1.0)] == pytest.approx([0, 0, 0.5, 1])
    feed(stopping, [1.0] * 8)
    assert (stopping.plateau, stopping.end) == (8, 10)
    assert [stopping.fallen(step, 0.1) for step in (8, 9, 10)] == [0, 0.5, 1]
    assert stopping.fallen(8, 0.96) == pytest.approx(0.8)  # and the budget ends it earlier


def test_state_goes_on_in_mid_window(stopping: Stopping) -> None:
    feed(stopping, [3.3] * 6)
    other = Stopping(4, stopping.fabric)
    other.load(stopping.state())
    for each in (stopping, other):
        feed(each, [3.1, 3.6], 7)
    assert other.plateau == stopping.plateau == 8
    assert other.state() == stopping.state()


def test_the_critics_opinion_does_not_count() -> None:
    terms = {"content": torch.tensor(2.0), "adversarial": torch.tensor(99.0), "style": torch.tensor(3.0)}
    assert float(judged(Turn("generator", terms, {"style": 0.5, "adversarial": 1.0}))) == 3.5


def rates(settings: Settings, monkeypatch: pytest.MonkeyPatch, **changes: object) -> list[float]:
    """The generator's learning rate at every step of a run."""
    found, set_rates = [], loop._set_rates

    def noting(training: Any, done: float) -> float:
        fallen = set_rates(training, done)
        found.append(training.players["generator"].optimizer.param_groups[0]["lr"])
        return fallen

    monkeypatch.setattr(loop, "_set_rates", noting)
    run(settings, **changes)
    return found


def test_a_run_ends_early_with_its_rate_at_zero(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A rate of nothing learns nothing: a window of eight steps has no gain, and the fall follows."""
    still = settings | {"stop_when_good": True, "patience": 8, "learning_rate": 1e-12, "steps": 1000, "batch": 1}
    found = rates(still, monkeypatch)
    # Windows differ by their photos, by more than a percent: the plateau may be one of the next windows.
    plateau = len(found) * 4 // 5
    assert plateau % 8 == 0 and len(found) == plateau + plateau // 4 < 1000
    warm = [1e-12 * (step + 1) / 100 for step in range(len(found))]
    assert found[:plateau] == pytest.approx(warm[:plateau])
    down = [warm[plateau + k] * (1 + math.cos(math.pi * k / (plateau // 4))) / 2 for k in range(plateau // 4)]
    assert found[plateau:] == pytest.approx(down)
    folder = Path(str(settings["run"]))
    assert stats(folder)[-1]["step"] == len(found)
    state = load_checkpoint(folder)
    assert state is not None and state["stopping"]["plateau"] == plateau
    assert "Stopped when good: the loss was" in (folder / "report.html").read_text(encoding="utf-8")


def test_resume_is_exact_before_and_after_the_plateau(settings: Settings, tmp_path: Path) -> None:
    still = settings | {"stop_when_good": True, "patience": 3, "learning_rate": 1e-6, "steps": 1000, "batch": 1}
    alone = run(still, run=str(tmp_path / "alone"))
    state = load_checkpoint(alone)
    assert state is not None
    plateau, end = state["stopping"]["plateau"], state["step"]
    for stop in {plateau - 1, (plateau + end) // 2}:
        again = str(tmp_path / f"stopped at {stop}")
        _stop_after(still | {"run": again}, stop)
        assert_same_weights(alone, run(still, run=again))
    assert_same_weights(alone, run(still, run=str(alone)))  # and a run that has stopped stays as it is


def _stop_after(settings: Settings, step: int) -> None:
    """Interrupt a run after ``step`` steps."""
    asked = 0

    class Signals:
        def is_set(self) -> bool:
            nonlocal asked
            asked += 1
            return asked >= step

    @contextmanager
    def signals() -> Any:
        yield Signals()

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_stop_signals", signals)
        run(settings)
    report = (Path(str(settings["run"])) / "report.html").read_text(encoding="utf-8")
    assert f"Interrupted (the same command goes on from here) at step {step}," in report


def test_patience_is_checked(settings: Settings) -> None:
    with pytest.raises(TrainError, match="patience: got 0, expected at least 1"):
        config_from_dict(settings | {"patience": 0}, "the test")


def test_an_early_sheet_beside_the_ticks_changes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings |= {"steps": 8, "tick": 2}
    plain = run(settings, run=str(tmp_path / "plain"))
    ticks = [f"samples-{step:06d}.png" for step in (2, 4, 6, 8)]
    assert [path.name for path in sorted(plain.glob("samples-*"))] == ticks
    monkeypatch.setattr(loop, "EARLY_SECONDS", 1e-6)
    early = run(settings)
    names = [path.name for path in sorted(early.glob("samples-*"))]
    assert names == ["samples-000001.png", *ticks]
    assert cv2.imread(str(early / names[0])).shape == (512, 1280, 3)
    assert_same_weights(plain, early)
