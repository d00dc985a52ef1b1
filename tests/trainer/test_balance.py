"""--look: the shares of the pull at the picture, by hand and in runs; exact resume; nothing changes without it."""

from __future__ import annotations

import math
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from runs import Settings, assert_same_weights, many, run, stats
from torch import Tensor

from styletrainer.config import config_from_dict
from styletrainer.errors import TrainError
from styletrainer.recipe import Turn
from styletrainer.run import balance as balance_module
from styletrainer.run import loop
from styletrainer.run.balance import LOOKS, Balance
from styletrainer.run.checkpoint import load_checkpoint


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def turn_of(output: Tensor, scale: float = 1.0, style: int = 0) -> Turn:
    terms = {
        "content": output.square().sum(dim=(1, 2, 3)).mean(),  # gradient 2 x, an item
        "style": scale * output.sum(dim=(1, 2, 3)).mean(),  # gradient `scale` everywhere
        "tv": output.mean(),
    }
    return Turn("generator", terms, {"content": 1.0, "style": 0.5, "tv": 0.3}, output, style)


def picture() -> Tensor:
    """Two items of 12 values: 1 and 3 everywhere, so content pulls with 2 sqrt(12) and 6 sqrt(12)."""
    return torch.stack([torch.full((3, 2, 2), 1.0), torch.full((3, 2, 2), 3.0)]).double().requires_grad_()


def test_weights_by_hand(fabric: Fabric) -> None:
    """content: mean of 2 and 6 is 4; style: 0.5 * 1; the sum, 4.5, is shared out as the look says."""
    weights = Balance("balanced", fabric).weighed(turn_of(picture())).weights
    shares = LOOKS["balanced"]
    of_two = shares["content"] + shares["style"]
    assert weights["content"] == pytest.approx(shares["content"] / of_two * 4.5 / 4)
    assert weights["style"] == pytest.approx(shares["style"] / of_two * 4.5 / 1)
    assert weights["tv"] == 0.3


@pytest.mark.parametrize("look", LOOKS)
def test_the_gradient_at_the_picture_has_the_shares_of_the_look(fabric: Fabric, look: str) -> None:
    """Whatever the artwork's scale is: the style's loss is 1, 5 and 0.5 times as large."""
    for scale in (1.0, 5.0, 0.5):
        output = picture()
        turn = Balance(look, fabric).weighed(turn_of(output, scale))
        pulls = {}
        for name in ("content", "style"):
            (gradient,) = torch.autograd.grad(turn.weights[name] * turn.terms[name], output, retain_graph=True)
            pulls[name] = float(gradient.flatten(1).norm(dim=1).mean())
        wanted = LOOKS[look]["style"] / LOOKS[look]["content"]
        assert pulls["style"] / pulls["content"] == pytest.approx(wanted)


def test_looks_are_in_order() -> None:
    styles = [LOOKS[look]["style"] for look in ("subtle", "balanced", "bold")]
    assert styles == sorted(set(styles))
    assert all(math.isclose(sum(shares.values()), 1) for shares in LOOKS.values())


def test_a_batch_cut_in_two_measures_the_same(fabric: Fabric) -> None:
    whole, halves = picture(), [part.detach().requires_grad_() for part in picture().chunk(2)]
    one = balance_module._pull(turn_of(whole).terms["content"], whole)
    two = [balance_module._pull(turn_of(half).terms["content"], half) for half in halves]
    assert float(one) == pytest.approx(float(torch.stack(two).mean()))


def test_a_weight_has_its_limits_where_a_loss_hardly_pulls(fabric: Fabric) -> None:
    farthest = balance_module._FARTHEST
    weights = Balance("bold", fabric).weighed(turn_of(picture(), 1e-9)).weights
    assert weights["style"] == pytest.approx(0.5 * farthest)
    output = torch.zeros(1, 3, 2, 2, requires_grad=True)  # where content does not pull at all
    assert Balance("bold", fabric).weighed(turn_of(output)).weights["content"] == pytest.approx(farthest)


def test_norms_are_smoothed_and_measured_at_times_for_each_style(fabric: Fabric) -> None:
    balance = Balance("bold", fabric)
    for index in range(2 * balance_module._EVERY):
        balance.weighed(turn_of(picture(), scale=1.0 if index < balance_module._EVERY else 2.0))
        balance.weighed(turn_of(picture(), scale=7.0, style=1))
    root = math.sqrt(12)
    decay = balance_module._DECAY
    assert balance.norms[0]["style"] == pytest.approx(root * (decay + 2 * (1 - decay)))
    assert balance.norms[1]["style"] == pytest.approx(7 * root)
    assert balance.turns == {0: 2 * balance_module._EVERY, 1: 2 * balance_module._EVERY}


def test_a_turn_without_output_stays_as_it_is(fabric: Fabric) -> None:
    turn = Turn("critic", {"critic": torch.ones(())})
    balance = Balance("bold", fabric)
    assert balance.weighed(turn) is turn
    none_of_ours = Turn("generator", {"tv": picture().mean()}, {}, picture())
    assert balance.weighed(none_of_ours) is none_of_ours


def test_bold_paints_more_style_than_subtle(settings: Settings, tmp_path: Any) -> None:
    found = {}
    for look in ("subtle", "bold"):
        folder = run(settings, look=look, run=str(tmp_path / look), steps=24, tick=6, learning_rate=2e-2)
        found[look] = stats(folder)[-1]
    assert found["bold"]["style"] < 0.9 * found["subtle"]["style"]
    assert found["subtle"]["content"] < 0.9 * found["bold"]["content"]


def test_resume_with_a_look_is_exact(settings: Settings, tmp_path: Any) -> None:
    look = many(settings) | {"look": "balanced", "tick": 5, "steps": 10}
    alone = run(look)
    other = str(tmp_path / "stopped")
    _train_until(look | {"run": other}, 5)
    assert_same_weights(alone, run(look, run=other))
    state = load_checkpoint(alone)
    assert state is not None and state["balance"]["turns"] == {0: 5, 1: 5}


def _train_until(settings: Settings, step: int) -> None:
    """Begin a run of more steps and leave it after ``step`` of them, as an interrupt does."""

    class Stop(SimpleNamespace):
        asked = 0

        def is_set(self) -> bool:
            Stop.asked += 1
            return Stop.asked >= step

    @contextmanager
    def signals() -> Any:
        yield Stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_stop_signals", signals)
        with pytest.raises(KeyboardInterrupt):
            run(settings)


def test_a_look_is_another_run(settings: Settings) -> None:
    run(settings, look="bold")
    with pytest.raises(TrainError, match="look: 'bold' in the run, None now"):
        run(settings)
    with pytest.raises(TrainError, match="look: got 'loud', expected one of subtle, balanced, bold"):
        config_from_dict(settings | {"look": "loud"}, "the test")
