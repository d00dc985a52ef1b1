"""CycleGAN: its losses by hand, the image pool, two unpaired domains, and runs that fall, resume and share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from runs import Settings, assert_same_weights, run, stats
from torch import Tensor, nn

from styletrainer.config import config_from_dict
from styletrainer.data.image_pool import ImagePool
from styletrainer.domains import SCALES, UnpairedCrops, read_domains
from styletrainer.errors import TrainError
from styletrainer.recipe import Step
from styletrainer.recipes.cyclegan import CycleGAN
from styletrainer.run import loop
from styletrainer.run.checkpoint import load_checkpoint

REALTIME: Settings = {"generator": "realtime", "generator_options": {"size": "nano"}}
STEP = Step(number=0, done=0.0, seed=0, batch=2)


class Line(nn.Module):
    """y = slope x + offset: a network whose losses can be computed by hand."""

    stride, margin = 1, 0

    def __init__(self, slope: float, offset: float = 0.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))
        self.offset = nn.Parameter(torch.tensor(offset, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x + self.offset


@pytest.fixture
def cyclegan(settings: Settings) -> Settings:
    tiny = {"channels": 4, "n_blocks": 1}
    return settings | {"recipe": "cyclegan", "generator": "johnson", "generator_options": tiny, "pool": 3}


def built(settings: Settings) -> CycleGAN:
    torch.manual_seed(0)
    return CycleGAN(config_from_dict(settings, "the test"))


def test_every_loss_is_what_is_computed_by_hand(cyclegan: Settings) -> None:
    recipe = built(cyclegan | {"adversarial": "lsgan", "adversarial_weight": 1.0})
    recipe.generator, recipe.back = Line(0.5, 0.1), Line(0.8)
    recipe.critic_a, recipe.critic_b = Line(2.0), Line(2.0)
    a, b = (torch.full((2, 3, 64, 64), value, dtype=torch.float64) for value in (0.5, 0.3))

    turns = recipe.turns({"a": a, "b": b}, STEP)
    turn = next(turns)  # painted 0.35, unpainted 0.24
    assert turn.player == "generator"
    wanted = {"cycle_a": 0.22, "cycle_b": 0.08, "identity": 0.05 + 0.10, "adversarial": (0.52**2 + 0.30**2) / 2}
    assert turn.terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert float(turn.terms[name].detach()) == pytest.approx(value, rel=1e-6), name
    total = turn.total()
    assert float(total.detach()) == pytest.approx(10 * (0.22 + 0.08) + 5 * 0.15 + wanted["adversarial"], rel=1e-6)

    total.backward()
    assert recipe.critic_a.slope.grad is None and recipe.critic_b.slope.grad is None
    # d/d slope of G, x: the photos' or paintings' value. cycle_a: |0.8 G(a) - a|, negative inside: -0.8 * 0.5;
    # cycle_b: |G(0.24) - b|: -0.24; identity |G(b) - b|: -0.3; fooling (2 G(a) - 1)^2 / 2: (0.7 - 1) * 2 * 0.5.
    slope = 10 * (-0.8 * 0.5 - 0.24) + 5 * -0.3 + (0.7 - 1) * 2 * 0.5
    assert float(recipe.generator.slope.grad) == pytest.approx(slope, rel=1e-6)

    turn = next(turns)  # the critics, on pictures that the pool gives back as long as it fills
    assert turn.player == "critic"
    assert float(turn.terms["critic_a"].detach()) == pytest.approx((0.0**2 + 0.48**2) / 2, rel=1e-6)
    assert float(turn.terms["critic_b"].detach()) == pytest.approx((0.4**2 + 0.70**2) / 2, rel=1e-6)
    before = recipe.generator.slope.grad.clone()
    turn.total().backward()
    assert torch.equal(recipe.generator.slope.grad, before)
    assert next(turns, None) is None


def test_the_way_back_begins_from_a_picture(cyclegan: Settings) -> None:
    """What the generator paints outside of 0-1 is cut off at inference, and so must not help in training."""
    recipe = built(cyclegan | {"identity_weight": 0})
    recipe.generator, recipe.back = Line(4.0), Line(0.25, -0.4)
    recipe.critic_a, recipe.critic_b = Line(1.0), Line(1.0)
    a, b = (torch.full((2, 3, 64, 64), value, dtype=torch.float64) for value in (0.5, 0.3))
    turn = next(recipe.turns({"a": a, "b": b}, STEP))  # painted 2, unpainted -0.325
    assert float(turn.terms["cycle_a"].detach()) == pytest.approx(0.5 - (0.25 - 0.4), rel=1e-6)
    assert float(turn.terms["cycle_b"].detach()) == pytest.approx(0.3, rel=1e-6)


def test_identity_of_weight_0_is_left_out(cyclegan: Settings) -> None:
    line = stats(run(cyclegan, identity_weight=0, pool=0, steps=2))[-1]
    assert "identity" not in line and np.isfinite(line["total"])


def test_the_realtime_generator_learns_it_too(cyclegan: Settings) -> None:
    assert np.isfinite(stats(run(cyclegan | REALTIME, steps=2))[-1]["cycle_a"])


def test_both_generators_and_both_critics_learn(cyclegan: Settings) -> None:
    recipe = built(cyclegan)
    learning = [p for player in recipe.players().values() for g in player.optimizer.param_groups for p in g["params"]]
    assert {id(p) for p in learning} == {id(p) for p in recipe.parameters() if p.requires_grad}
    assert len(learning) == len({id(p) for p in learning})


def value(picture: Tensor) -> float:
    assert float(picture.min()) == float(picture.max())
    return float(picture[0, 0, 0])


def numbered(first: int, count: int) -> Tensor:
    return torch.arange(first, first + count, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 4, 4)


def test_pool_gives_back_every_picture_while_it_fills() -> None:
    pool = ImagePool(4, 4)
    given = pool.swap(numbered(1, 3))
    assert torch.equal(given, numbered(1, 3)) and int(pool.held) == 3
    assert [value(p) for p in pool.pictures] == [1, 2, 3, 0]


def test_full_pool_exchanges_half_of_the_pictures_and_loses_none() -> None:
    torch.manual_seed(0)
    pool, fresh = ImagePool(10, 4), numbered(11, 1000)
    pool.swap(numbered(1, 10))
    given = [value(picture) for picture in pool.swap(fresh)]
    held = [value(picture) for picture in pool.pictures]
    assert Counter(given + held) == Counter(float(n) for n in range(1, 1011))  # each once: given back, or still held
    exchanged = sum(g != f for g, f in zip(given, range(11, 1011), strict=True))
    assert abs(exchanged - 500) < 60  # four standard deviations of 1000 coins
    assert all(g <= f for g, f in zip(given, range(11, 1011), strict=True))  # never a picture of the future
    # Each place is as likely as every other: a picture stays for 10 exchanges, 20 pictures, on average.
    ages = [f - g for g, f in zip(given, range(11, 1011), strict=True) if g != f]
    assert 15 < np.mean(ages) < 25


def test_pool_of_a_batch_is_that_of_its_items_one_by_one() -> None:
    at_once, one_by_one = ImagePool(3, 4), ImagePool(3, 4)
    torch.manual_seed(5)
    given = at_once.swap(numbered(1, 20))
    torch.manual_seed(5)
    assert torch.equal(given, torch.cat([one_by_one.swap(numbered(n, 1)) for n in range(1, 21)]))
    assert torch.equal(at_once.pictures, one_by_one.pictures)


def test_pool_keeps_copies() -> None:
    pool, fresh = ImagePool(2, 4), torch.ones(1, 3, 4, 4, requires_grad=True)
    given = pool.swap(fresh)
    given.zero_()
    assert not given.requires_grad and value(pool.pictures[0]) == 1 and value(fresh[0].detach()) == 1


class StoppedError(Exception):
    """The run was cut off."""


def resumed(settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A run of its own, and the same one cut off after a checkpoint half-way and begun again."""
    alone = run(settings, run=str(folder / "alone"))
    write = loop.write_sheet

    def stop(path: Path, rows: object) -> None:
        raise StoppedError

    monkeypatch.setattr(loop, "write_sheet", stop)
    with pytest.raises(StoppedError):
        run(settings, run=str(folder / "cut"))
    monkeypatch.setattr(loop, "write_sheet", write)
    return alone, run(settings, run=str(folder / "cut"))


def assert_same_checkpoints(left: Path, right: Path) -> None:
    ours, theirs = load_checkpoint(left), load_checkpoint(right)
    assert ours is not None and theirs is not None and ours["step"] == theirs["step"]
    for player in ("generator", "critic"):
        assert ours[player].keys() == theirs[player].keys()
        for name, tensor in ours[player].items():
            assert torch.equal(tensor, theirs[player][name]), name


def test_resumed_run_ends_with_the_same_weights_and_the_same_pool(
    cyclegan: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, cut = resumed(cyclegan, tmp_path, monkeypatch)
    assert_same_weights(alone, cut)
    assert_same_checkpoints(alone, cut)
    state = load_checkpoint(cut)
    assert state is not None and int(state["critic"]["2.held"]) == 3 and float(state["critic"]["2.pictures"].min()) > 0


def test_cycle_and_identity_fall(cyclegan: Settings) -> None:
    lines = stats(run(cyclegan, steps=48, tick=12, learning_rate=2e-2))
    for name in ("cycle_a", "cycle_b", "identity"):
        assert lines[-1][name] < 0.9 * lines[0][name], name
    assert {"adversarial", "critic_a", "critic_b", "total"} <= lines[0].keys()


SHARED_POOL = """
import sys, torch
from styletrainer.data.image_pool import ImagePool
from styletrainer.recipe import Step
rank, where = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{where}/meeting", rank=rank, world_size=2)
pool = ImagePool(3, 2)
for number in range(6):
    torch.manual_seed(number)
    fresh = torch.full((1, 3, 2, 2), 2.0 * number + rank + 1).to(memory_format=torch.channels_last)
    given = pool.swap_shared(fresh, Step(number, 0.0, 0, batch=1, rank=rank, world=2))
    print(float(given.mean()), *pool.pictures.mean((1, 2, 3)).tolist())
torch.distributed.destroy_process_group()
"""


def test_two_processes_have_the_pool_of_one_with_the_doubled_batch(tmp_path: Path) -> None:
    """Of six steps of two pictures the last nine pictures overflow a pool of three, so that the draws count."""
    line = [sys.executable, "-c", SHARED_POOL]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    with (
        subprocess.Popen([*line, "0", str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment) as first,
        subprocess.Popen([*line, "1", str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment) as second,
    ):
        told = [[float(x) for x in (process.communicate()[0]).split()] for process in (first, second)]
    found = np.array(told).reshape(2, 6, 4)
    pool = ImagePool(3, 2)
    for number in range(6):
        torch.manual_seed(number)
        pair = torch.tensor([2.0 * number + 1, 2.0 * number + 2])[:, None, None, None].expand(-1, 3, 2, 2)
        assert found[:, number, 0].tolist() == [value(picture) for picture in pool.swap(pair)]
        assert found[0, number, 1:].tolist() == found[1, number, 1:].tolist() == [value(p) for p in pool.pictures]
    assert (found[:, :, 0].T.ravel() != np.arange(1, 13)).any()  # something was exchanged


def ramp(path: Path, height: int, width: int) -> Path:
    """A picture that brightens by 200 from left to right: its slope tells at which scale it is seen."""
    row = np.linspace(20, 220, width).round().astype(np.uint8)
    cv2.imwrite(str(path), np.broadcast_to(row[None, :, None], (height, width, 3)))
    return path


def slopes(crops: UnpairedCrops, count: int = 60) -> np.ndarray:
    rows = [crops[i][1].mean(dim=(0, 1)).numpy() * 255 for i in range(count)]
    return np.abs([np.polyfit(np.arange(len(row)), row, 1)[0] for row in rows])


def test_artworks_are_seen_at_scales_of_one_octave(tmp_path: Path) -> None:
    path = ramp(tmp_path / "a.png", 400, 600)
    found = slopes(UnpairedCrops([path], [path], 64, 160, 0))
    middle = 200 / (600 * 160 / 400)
    assert found.min() > middle / SCALES * 0.97 and found.max() < middle * SCALES * 1.03
    assert found.max() / found.min() > 1.7


def test_artworks_are_not_enlarged_beyond_their_own_size(tmp_path: Path) -> None:
    path = ramp(tmp_path / "a.png", 100, 150)
    np.testing.assert_allclose(slopes(UnpairedCrops([path], [path], 64, 384, 0), 10), 200 / 150, rtol=0.03)


def test_items_depend_on_seed_and_number_alone(cyclegan: Settings) -> None:
    config = config_from_dict(cyclegan, "the test")
    a, b = read_domains(config)
    crops, again = (UnpairedCrops(a, b, 64, 96, 0) for _ in range(2))
    first = [crops[i] for i in range(6)]
    for index in (5, 0, 3):
        for left, right in zip(first[index][:2], again[index][:2], strict=True):
            assert torch.equal(left, right) and left.shape == (3, 64, 64) and left.min() >= 0 and left.max() <= 1
    assert not torch.equal(first[0][1], UnpairedCrops(a, b, 64, 96, 1)[0][1])
    assert not torch.equal(first[0][1], first[1][1])


def test_domain_b_may_be_files_and_folders(cyclegan: Settings, tmp_path: Path, material: Path) -> None:
    (tmp_path / "works" / "deep").mkdir(parents=True)
    works = [ramp(tmp_path / "works" / "b.png", 80, 90), ramp(tmp_path / "works" / "deep" / "c.png", 70, 90)]
    given = [str(material / "artwork.png"), str(tmp_path / "works"), str(works[0])]
    _, b = read_domains(config_from_dict(cyclegan | {"artworks": given}, "the test"))
    assert b == [material / "artwork.png", *works]  # named twice, there once


def test_everything_wrong_with_the_domains_is_in_one_report(cyclegan: Settings, tmp_path: Path) -> None:
    photos, empty = tmp_path / "photos", tmp_path / "empty"
    photos.mkdir()
    empty.mkdir()
    (photos / "broken.jpg").write_bytes(b"no picture")
    ramp(photos / "good.png", 30, 40)  # a photo may be small: it is enlarged
    small = ramp(tmp_path / "small.png", 50, 70)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "b.tar").write_bytes(b"")
    ramp(mixed / "a.png", 80, 90)
    artworks = [str(empty), str(small), str(mixed), str(tmp_path / "nowhere")]
    with pytest.raises(TrainError) as error:
        run(cyclegan | REALTIME, photos=str(photos), artworks=artworks, styles=["a", "b", "c", "d"])
    text = str(error.value)
    assert "6 problem(s)" in text and "nothing was trained" in text
    for part in (
        "styles: got a, b, c, d, expected none",
        f"artworks: got {empty}, a folder without a picture",
        f"with pictures, first {mixed / 'a.png'}, beside tars, first {mixed / 'b.tar'}",
        f"artworks: got {tmp_path / 'nowhere'}, where nothing is",
        f"photos: got {photos / 'broken.jpg'}, which does not read",
        f"artworks: got {small} of 70x50 pixels, expected at least 64",
    ):
        assert part in text
    assert not Path(str(cyclegan["run"])).exists()


def test_long_reports_are_cut(cyclegan: Settings, tmp_path: Path) -> None:
    for index in range(30):
        (tmp_path / f"{index}.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainError, match=r"30 problem\(s\)(.|\n)*and 10 more"):
        run(cyclegan, photos=str(tmp_path))


def test_no_teacher(cyclegan: Settings, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"pictures: got .*expected none: cyclegan has no teacher"):
        run(cyclegan, pictures=[str(tmp_path)])


def test_picture_that_goes_away_during_the_run(cyclegan: Settings, tmp_path: Path) -> None:
    config = config_from_dict(cyclegan | {"run": str(tmp_path / "run")}, "the test")
    batches = CycleGAN(config).batches(0, 0, 1)
    crops = UnpairedCrops([tmp_path / "gone.png"], [tmp_path / "gone.png"], 64, 96, 0)
    assert isinstance(crops.__getitems__([0, 1]), TrainError)
    assert next(batches)["a"].shape == (2, 3, 64, 64)


@pytest.mark.parametrize("option", [{"pool": 1.5}, {"pool": -1}, {"cycle_weight": -1}, {"identity_weight": "much"}])
def test_bad_options(cyclegan: Settings, option: Settings) -> None:
    with pytest.raises(TrainError, match=f"{next(iter(option))}: got .*expected (int|float|a number from 0 on)"):
        run(cyclegan, **option)


def test_begins_with_the_weights_of_another_run(cyclegan: Settings, tmp_path: Path) -> None:
    before = run(cyclegan, steps=3)
    recipe = built(cyclegan | {"start": str(before)})
    state = load_checkpoint(before)
    assert state is not None
    for name, tensor in recipe.generator.state_dict().items():
        assert torch.equal(tensor, state["averaged"][name])
