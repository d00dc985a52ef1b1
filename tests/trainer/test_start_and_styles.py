"""Runs that begin with another run's weights or a teacher's pictures, and networks of several styles."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest
import torch
from runs import Settings, assert_same_weights, inverted, many, run, stats
from safetensors.torch import load_file

from styletrainer.config import config_from_dict
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator
from styletrainer.run.checkpoint import CHECKPOINT, WEIGHTS, load_checkpoint, load_weights, save_checkpoint
from styletrainer.run.report import ORIGIN
from styletrainer.run.training import set_up


def test_start_begins_with_the_weights_of_a_run(settings: Settings, tmp_path: Path) -> None:
    first = run(settings, steps=24, learning_rate=5e-3)
    onward = stats(run(settings, run=str(tmp_path / "onward"), start=str(first), steps=4, tick=1))
    anew = stats(run(settings, run=str(tmp_path / "anew"), steps=4, tick=1))
    assert onward[0]["style"] < anew[0]["style"]


def test_the_end_gets_its_share_of_the_start(settings: Settings, tmp_path: Path) -> None:
    first = run(settings, steps=8, learning_rate=5e-3)
    onward = {"start": str(first), "steps": 8, "tick": 8}
    alone = run(settings, run=str(tmp_path / "alone"), **onward)
    mixed = run(settings, run=str(tmp_path / "mixed"), start_share=0.25, **onward)
    before, after, found = (load_file(folder / WEIGHTS) for folder in (first, alone, mixed))
    assert any(not torch.equal(before[name], after[name]) for name in after)
    for name, value in found.items():
        expected = 0.75 * after[name] + 0.25 * before[name] if value.is_floating_point() else after[name]
        torch.testing.assert_close(value, expected, msg=name)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_of_the_start_that_is_none(settings: Settings, share: float) -> None:
    with pytest.raises(TrainError, match=r"start_share: got .*expected 0 up to, and not, 1"):
        config_from_dict(settings | {"start": "before", "start_share": share}, "test")


def test_a_share_of_no_start(settings: Settings) -> None:
    with pytest.raises(TrainError, match=r"start_share: got 0\.5, expected 0 without `start`"):
        config_from_dict(settings | {"start_share": 0.5}, "test")


@pytest.mark.parametrize("groups", ["one group", "no kinds"])
def test_checkpoint_of_an_earlier_optimiser(settings: Settings, tmp_path: Path, groups: str) -> None:
    """Before Muon there was Adam, with one group of all parameters; a later one had as many groups as Muon."""
    folder = run(settings, steps=4)
    state = load_checkpoint(folder)
    assert state is not None
    optimizer = state["optimizer"]
    if groups == "one group":
        joined = [number for group in optimizer["param_groups"] for number in group["params"]]
        optimizer["param_groups"] = [optimizer["param_groups"][0] | {"params": joined}]
    for group in optimizer["param_groups"]:
        del group["kernels"]
    torch.save(state, folder / CHECKPOINT)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(TrainError, match=r"got: .* step 4 .*earlier(.|\n)*expected: (.|\n)*Do this: .*--start "):
        run(settings, steps=8)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    run(settings, run=str(tmp_path / "onward"), start=str(folder), steps=2)  # what the error says to do


def test_start_with_styles_in_another_order(settings: Settings, tmp_path: Path) -> None:
    before = run(many(settings), steps=4)
    with pytest.raises(TrainError, match="styles a, b; expected: b, a, in this order"):
        run(many(settings, "ba"), run=str(tmp_path / "other"), start=str(before))


def test_start_from_a_run_of_another_generator(settings: Settings, tmp_path: Path) -> None:
    before = run(settings, steps=1)
    options = {"generator": "johnson", "generator_options": {"channels": 4, "n_blocks": 1}}
    with pytest.raises(TrainError, match="a run of generator realtime; expected: one of johnson"):
        run(settings, start=str(before), run=str(tmp_path / "other"), **options)


def test_several_styles_in_one_network(settings: Settings, tmp_path: Path) -> None:
    folder = run(many(settings), pictures=[inverted(settings, tmp_path / "pictures")] * 2, steps=8)
    table = load_file(folder / WEIGHTS)["stem.affine"]
    assert table.shape == (2, 2, 16)
    assert not torch.allclose(table[0], table[1])  # both learned, each by itself
    assert cv2.imread(str(folder / "samples-000008.png")).shape == (3 * 256, 5 * 256, 3)


def test_resumed_run_of_several_styles_is_the_same(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway = tmp_path / "halfway"

    def save(folder: Path, state: dict[str, object], averaged: torch.nn.Module) -> None:
        save_checkpoint(folder, state, averaged)
        if not halfway.exists():  # the first of several checkpoints
            shutil.copytree(folder, halfway)

    monkeypatch.setattr("styletrainer.run.loop.save_checkpoint", save)
    whole = run(many(settings), steps=6, tick=3)
    state = load_checkpoint(halfway)
    assert state is not None and 0 < state["step"] < 6
    assert_same_weights(whole, run(many(settings), run=str(halfway), steps=6, tick=3))


def test_a_run_of_one_style_starts_from_one_of_several(settings: Settings, tmp_path: Path) -> None:
    before = run(many(settings) | {"styles": ["x", "artwork"]}, steps=4)
    config = config_from_dict(settings | {"run": str(tmp_path / "one"), "start": str(before)}, "the test")
    started = set_up(config).averaged
    wanted = build_generator("realtime", {"size": "nano", "styles": 2})
    load_weights(wanted, before / WEIGHTS)
    photo = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(started(photo), wanted.eval()(photo, torch.tensor([0.0, 1.0])), rtol=1e-4, atol=1e-5)
    other = run(many(settings) | {"styles": ["x", "y"], "run": str(tmp_path / "xy")})
    with pytest.raises(TrainError, match=rf"styles x, y; expected: artwork(.|\n)*--add-to {other},"):
        run(settings, start=str(other))


def test_a_new_style_leaves_the_others_alone(settings: Settings, tmp_path: Path) -> None:
    before = run(many(settings), steps=4)
    changes = {"styles": ["a", "b", "new"], "new_style_only": True, "start": str(before)}
    after = run(settings, run=str(tmp_path / "grown"), steps=6, **changes)
    old, new = load_file(before / WEIGHTS), load_file(after / WEIGHTS)
    for name, value in old.items():
        assert torch.equal(value, new[name][:2] if name.endswith(("affine", "mean", "variance")) else new[name]), name
    assert not torch.allclose(new["out.affine"][2], old["out.affine"].mean(0), rtol=0, atol=1e-5)  # and it learned


def test_a_style_can_be_steadier_than_the_others(settings: Settings, tmp_path: Path) -> None:
    """The weight reaches the total of that style's steps, and of no others."""
    options = many(settings) | {"tick": 1, "steps": 2, "grid_weight": 0.0, "equivariance_weight": 0.0}
    with_none = stats(run(options, run=str(tmp_path / "none")))
    own = options | {"equivariance_weight": 1.0, "equivariance_weights": {"b": 50.0}}
    first, second = stats(run(own, run=str(tmp_path / "own")))
    assert first["equivariance"] > 0 and "equivariance" not in with_none[0]
    parts = {"content": 1.0, "style": 0.7, "adversarial": 0.1, "tv": 0.3}
    for tick, weight in ((first, 1.0), (second, 50.0)):
        expected = sum(tick[name] * share for name, share in parts.items()) + weight * tick["equivariance"]
        assert tick["total"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("term", ["halo", "calm", "form"])
def test_terms_of_the_recipe_cost_what_their_weight_says(settings: Settings, tmp_path: Path, term: str) -> None:
    options = settings | {"tick": 1, "steps": 1, "grid_weight": 0.0, "equivariance_weight": 0.0}
    (without,) = stats(run(options, run=str(tmp_path / "none")))
    (found,) = stats(run(options, run=str(tmp_path / "with"), **{f"{term}_weight": 1000.0}))
    assert found[term] > 0 and term not in without
    assert found["total"] == pytest.approx(without["total"] + 1000 * found[term], rel=1e-3)


def test_steadiness_where_the_others_have_none(settings: Settings) -> None:
    own = {"tick": 1, "steps": 2, "equivariance_weight": 0.0, "equivariance_weights": {"b": 5.0}}
    first, second = stats(run(many(settings), **own))
    assert "equivariance" not in first and second["equivariance"] > 0


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"z": 1.0}, "got z, expected names of a, b"),
        ({"a": -1.0}, "got -1.0 of a, expected a number from 0 on"),
        ({"a": float("nan")}, "got nan of a, expected a number"),
        ({"a": True}, "got True of a, expected a number"),
        ({"a": "much"}, "got 'much' of a, expected a number"),
        (40, "got 40, expected style names with numbers"),
    ],
)
def test_steadiness_that_is_none(settings: Settings, weights: object, problem: str) -> None:
    with pytest.raises(TrainError, match=f"equivariance_weights: {problem}"):
        config_from_dict(many(settings) | {"equivariance_weights": weights}, "the test")


def test_steadiness_of_styles_in_a_run_of_one(settings: Settings) -> None:
    with pytest.raises(TrainError, match=r"got artwork, expected names of several styles .*--many"):
        config_from_dict(settings | {"equivariance_weights": {"artwork": 1.0}}, "the test")


def test_start_from_a_run_of_another_size(settings: Settings, tmp_path: Path) -> None:
    before = run(settings, steps=1)
    with pytest.raises(TrainError, match=r"a network of size nano; expected: small(.|\n)*--size nano"):
        run(settings, start=str(before), run=str(tmp_path / "other"), generator_options={})


def test_an_imported_run_is_not_trained_over(settings: Settings) -> None:
    folder = run(settings, steps=1)
    (folder / CHECKPOINT).unlink()
    (folder / ORIGIN).write_text("{}")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(TrainError, match=rf"got: {folder}, which `stylesdk import` made(.|\n)*--start {folder}"):
        run(settings, steps=1)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
