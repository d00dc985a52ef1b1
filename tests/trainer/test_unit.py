"""UNIT: its losses by hand, what the two domains share, the measure of their overlap, and runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Settings, assert_same_weights, run, stats
from test_cyclegan import Line, assert_same_checkpoints, resumed
from torch import Tensor, nn

from styleexport.onnx_from_checkpoint import contract_from_generator, onnx_from_generator
from styleexport.verify import compare, run_frames, run_torch, verification_samples
from stylesdk import Manifest
from styletrainer.config import config_from_dict
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator
from styletrainer.generators.unit import Unit
from styletrainer.losses.overlap import latent_overlap
from styletrainer.recipe import Step
from styletrainer.recipes import unit
from styletrainer.recipes.unit import UNIT, gaussian_kl, latents_at_places
from styletrainer.run.checkpoint import load_checkpoint

TINY = {"channels": 4, "n_blocks": 1}


@pytest.fixture
def unit_settings(settings: Settings) -> Settings:
    return settings | {"recipe": "unit", "generator": "unit", "generator_options": TINY, "overlap_crops": 6}


def built(settings: Settings) -> UNIT:
    torch.manual_seed(0)
    return UNIT(config_from_dict(settings, "the test"))


def test_kl_is_that_of_unit_normals() -> None:
    mean = torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = torch.distributions.Normal(mean, torch.ones_like(mean))
    normal = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    wanted = torch.distributions.kl_divergence(ours, normal).mean()
    assert float(gaussian_kl(mean)) == pytest.approx(float(wanted), rel=1e-6)
    assert float(gaussian_kl(torch.full((1, 1, 2, 2), 3.0))) == 4.5


class Halves(nn.Module):
    """An encoder and a decoder whose losses can be computed by hand."""

    def __init__(self, encoder: float, decoder: float) -> None:
        super().__init__()
        self.encoder, self.decoder = Line(encoder), Line(decoder)


def test_every_loss_is_what_is_computed_by_hand(unit_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A is coded by 2 and decoded by 0.4, B by 3 and 0.3; the noise is what ``item_random`` draws, in its order."""
    recipe = built(unit_settings | {"adversarial": "lsgan", "adversarial_weight": 2.0, "overlap_crops": 0})
    recipe.generator, recipe.back = Halves(2.0, 0.3), Halves(3.0, 0.4)  # type: ignore[assignment]
    recipe.critic_a, recipe.critic_b = Line(2.0), Line(1.5)  # type: ignore[assignment]
    step = Step(number=7, done=0.0, seed=3, batch=2)
    shape = (3, 64, 64)
    random = [step.item_random(item) for item in range(2)]
    na, nb, na2, nb2 = (torch.stack([torch.randn(shape, generator=r) for r in random]).double() for _ in range(4))
    a, b = (torch.full((2, *shape), value, dtype=torch.float64) for value in (0.5, 0.3))

    turns = recipe.turns({"a": a, "b": b}, step)
    turn = next(turns)
    painted, unpainted = 0.3 * (1.0 + na), 0.4 * (0.9 + nb)
    wanted = {
        "reconstruction": (0.4 * (1.0 + na) - 0.5).abs().mean() + (0.3 * (0.9 + nb) - 0.3).abs().mean(),
        "kl": torch.tensor((1.0**2 + 0.9**2) / 2),
        "cycle": (0.4 * (3 * painted + na2) - a).abs().mean() + (0.3 * (2 * unpainted + nb2) - b).abs().mean(),
        "cycle_kl": ((3 * painted) ** 2 / 2).mean() + ((2 * unpainted) ** 2 / 2).mean(),
        "latent": (3 * painted - 1.0).abs().mean() + (2 * unpainted - 0.9).abs().mean(),
        "adversarial": ((2 * unpainted - 1) ** 2 / 2).mean() + ((1.5 * painted - 1) ** 2 / 2).mean(),
    }
    assert turn.terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert float(turn.terms[name].detach()) == pytest.approx(float(value), rel=1e-6), name
    weights = {"reconstruction": 10, "kl": 0.01, "cycle": 10, "cycle_kl": 0.01, "adversarial": 2, "latent": 2}
    total = sum(weights[name] * float(value) for name, value in wanted.items())
    assert float(turn.total().detach()) == pytest.approx(total, rel=1e-6)
    turn.total().backward()
    assert recipe.critic_a.slope.grad is None and recipe.critic_b.slope.grad is None

    before = recipe.generator.encoder.slope.grad.clone()  # type: ignore[union-attr, operator]
    turn = next(turns)
    critic_a = ((2 * a - 1) ** 2).mean() / 2 + ((2 * unpainted) ** 2).mean() / 2
    critic_b = ((1.5 * b - 1) ** 2).mean() / 2 + ((1.5 * painted) ** 2).mean() / 2
    assert float(turn.terms["critic_a"].detach()) == pytest.approx(float(critic_a), rel=1e-6)
    assert float(turn.terms["critic_b"].detach()) == pytest.approx(float(critic_b), rel=1e-6)
    turn.total().backward()
    assert torch.equal(recipe.generator.encoder.slope.grad, before)  # type: ignore[arg-type]
    assert next(turns, None) is None


def test_noise_of_an_item_is_the_same_however_many_processes_share_the_batch() -> None:
    mean = torch.zeros(2, 3, 4, 4)
    one = unit._Noise(Step(number=4, done=0.0, seed=1, batch=2), 2).added(mean)
    steps = [Step(number=4, done=0.0, seed=1, batch=1, rank=rank, world=2) for rank in range(2)]
    two = torch.cat([unit._Noise(step, 1).added(mean[:1]) for step in steps])
    assert torch.equal(one, two) and not torch.equal(one[0], one[1])


def test_inner_blocks_are_shared_and_the_outer_ones_are_not() -> None:
    there = Unit(4, 1, shared=2)
    back = there.counterpart()
    for mine, other in ((there.encoder, back.encoder), (there.decoder, back.decoder)):
        assert mine.shared is other.shared
        assert not {id(p) for p in mine.own.parameters()} & {id(p) for p in other.own.parameters()}
        assert [p.shape for p in mine.parameters()] == [p.shape for p in other.parameters()]
    assert not {id(p) for p in there.encoder.shared.parameters()} & {id(p) for p in there.decoder.parameters()}


def test_what_is_learned_from_one_domain_reaches_the_other_through_the_shared_blocks(unit_settings: Settings) -> None:
    recipe = built(unit_settings)
    recipe.back.decoder(recipe.back.encoder(torch.rand(1, 3, 64, 64))).mean().backward()
    assert all(p.grad is not None for p in recipe.generator.encoder.shared.parameters())
    assert all(p.grad is None for p in recipe.generator.encoder.own.parameters())


def test_shared_blocks_are_still_shared_after_training_and_learned_once_a_step(unit_settings: Settings) -> None:
    recipe = built(unit_settings)
    groups = recipe.players()["generator"].optimizer.param_groups
    learning = [id(parameter) for group in groups for parameter in group["params"]]
    recipe.to(torch.device("cpu")).players()["generator"].module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert len(learning) == len(set(learning)) == len({id(p) for p in recipe.autoencoders.parameters()})
    assert recipe.generator.decoder.shared is recipe.back.decoder.shared


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_latents_of_one_distribution_overlap_and_of_two_do_not() -> None:
    a, b = normal(0, 50, 8, 16), normal(1, 50, 8, 16)
    assert latent_overlap(a, b) > 0.9
    assert latent_overlap(a, b + 9) == 0
    assert latent_overlap(1e-6 * a, 1e-6 * (b + 9)) == 0  # whatever the scale


@pytest.mark.parametrize("distance", [0.5, 2.0])
def test_overlap_of_two_normals_is_the_integral(distance: float) -> None:
    """Of 2pq / (p + q), on a grid."""
    x = np.linspace(-9, 9 + distance, 4001)
    p, q = np.exp(-(x**2) / 2), np.exp(-((x - distance) ** 2) / 2)
    wanted = float(np.sum(2 * p * q / (p + q)) * (x[1] - x[0]) / np.sqrt(2 * np.pi))
    a, b = normal(0, 2000, 1, 1), normal(1, 2000, 1, 1) + distance
    assert latent_overlap(a, b) == pytest.approx(wanted, abs=0.05)


def test_overlap_sees_what_a_mean_does_not() -> None:
    """The same mean and variance: two far corners of a square each, the other two of the other domain."""
    corners = 5 * np.random.default_rng(0).choice([-1, 1], (40, 6, 1))
    a, b = corners * np.array([1, 1]), corners * np.array([1, -1])
    assert latent_overlap(a + normal(1, 40, 6, 2), b + normal(2, 40, 6, 2)) < 0.02


def test_places_of_one_picture_do_not_vouch_for_each_other() -> None:
    """Every picture is a cloud of its own, of whatever domain: there is nothing to learn from the others."""
    places = 0.01 * normal(0, 80, 9, 8) + normal(1, 80, 1, 8)
    assert latent_overlap(places[:40], places[40:]) > 0.7


def test_crops_of_one_picture_do_not_vouch_for_each_other() -> None:
    """Twenty pictures a domain, four crops of each that hardly differ: the same distribution, so they overlap."""
    pictures = normal(0, 40, 1, 1, 8)
    crops = (pictures + 0.01 * normal(1, 40, 4, 3, 8)).reshape(160, 3, 8)
    a, b, of = crops[:80], crops[80:], np.arange(20).repeat(4).tolist()
    assert latent_overlap(a, b) < 0.1, "as if crops were pictures"
    assert latent_overlap(a, b, of, of) > 0.6
    assert latent_overlap(a, b + 9, of, of) == 0
    assert latent_overlap(a, b, [n % 4 for n in of], [0] * 80) < 0.1, "too few pictures to leave any out"


def test_overlap_refuses_what_it_cannot_measure() -> None:
    with pytest.raises(ValueError, match=r"got latents \(4, 1, 2\) and \(4, 1, 2\), expected .*N at least 5"):
        latent_overlap(np.zeros((4, 1, 2)), np.zeros((4, 1, 2)))
    with pytest.raises(ValueError, match=r"got latents \(6, 1, 2\) and \(7, 1, 2\)"):
        latent_overlap(np.zeros((6, 1, 2)), np.zeros((7, 1, 2)))
    with pytest.raises(ValueError, match="NaN"):
        latent_overlap(np.full((9, 1, 2), np.nan), np.zeros((9, 1, 2)))


def test_latents_are_taken_at_sixteen_places() -> None:
    picture = torch.arange(32 * 64.0).reshape(1, 32, 64).expand(3, -1, -1)
    found = latents_at_places(Line(1.0, 1.0).float(), [picture, picture])  # type: ignore[arg-type]
    assert found.shape == (2, 16, 3)
    assert found[1, :, 0].tolist() == [64.0 * y + x + 1 for y in (4, 12, 20, 28) for x in (8, 24, 40, 56)]


def test_overlap_is_measured_at_the_first_step_of_a_tick_and_shown_all_of_it(unit_settings: Settings) -> None:
    recipe = built(unit_settings | {"steps": 100, "tick": 3})
    photos, paintings, of = zip(*[recipe.unseen[i][:3] for i in range(6)], strict=True)
    a = latents_at_places(recipe.generator.encoder, photos)
    wanted = latent_overlap(a, latents_at_places(recipe.back.encoder, paintings), *torch.stack(of).T.tolist())
    found = [float(recipe._overlap(0))]
    with torch.no_grad():
        for parameter in recipe.back.encoder.own.parameters():
            parameter.mul_(-3)
    found += [float(recipe._overlap(step)) for step in (1, 2, 3, 4)]
    assert found[:3] == [pytest.approx(wanted, rel=1e-6)] * 3
    assert found[3] == found[4] != found[0]


def test_overlap_can_be_left_out(unit_settings: Settings) -> None:
    assert "overlap" not in stats(run(unit_settings, overlap_crops=0, steps=2))[-1]


@pytest.mark.parametrize(("pictures", "withheld"), [(20, 5), (38, 5), (63, 6), (100, 10), (388, 38)])
def test_a_tenth_of_the_pictures_is_withheld_but_as_many_as_the_measure_has_folds(pictures: int, withheld: int) -> None:
    paths = [Path(str(i)) for i in range(pictures)]
    train, measure = unit._withheld(paths)
    assert len(measure) == withheld and sorted(train + measure, key=lambda path: int(path.name)) == paths


def test_the_measure_sees_the_training_pictures_where_withholding_would_take_more_than_a_quarter() -> None:
    paths = [Path(str(i)) for i in range(19)]
    assert unit._withheld(paths) == (paths, paths)


def test_reconstruction_and_cycle_fall(unit_settings: Settings) -> None:
    lines = stats(run(unit_settings, steps=40, tick=8, learning_rate=2e-2))
    for name in ("reconstruction", "cycle"):
        assert lines[-1][name] < 0.8 * lines[0][name], name
    assert {"kl", "cycle_kl", "adversarial", "overlap", "critic_a", "critic_b", "total"} <= lines[0].keys()


def test_resumed_run_ends_with_the_same_weights(
    unit_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, cut = resumed(unit_settings, tmp_path, monkeypatch)
    assert_same_weights(alone, cut)
    assert_same_checkpoints(alone, cut)
    assert [line["overlap"] for line in stats(alone)] == [line["overlap"] for line in stats(cut)]


@torch.no_grad()
def test_torch_equals_onnx_and_the_mean_is_decoded() -> None:
    torch.manual_seed(0)
    generator = build_generator("unit", TINY).eval()
    photo: Tensor = torch.rand(1, 3, 32, 48)
    wanted = generator.decoder(generator.encoder(photo))  # type: ignore[operator]
    torch.testing.assert_close(generator.fold()(photo.flip(1) * 255).flip(1) / 255, wanted, rtol=0, atol=1e-5)  # type: ignore[operator]
    contract, samples = contract_from_generator(generator), verification_samples(None, 1)
    model = onnx_from_generator(generator, Manifest(name="x", styles=("x",), stride=4, precision="fp32", licence="MIT"))
    difference = compare([run_torch(contract, sample) for sample in samples], run_frames(model, samples))
    assert difference.max <= 1 and difference.mean <= 0.02


def test_another_generator_is_refused(unit_settings: Settings) -> None:
    """In one report with what else is wrong."""
    with pytest.raises(TrainError, match=r"generator: got johnson, expected unit(.|\n)*where nothing is"):
        run(unit_settings, generator="johnson", photos="nowhere")


def test_diverging_run_says_so_and_saves_nothing(unit_settings: Settings) -> None:
    with pytest.raises(TrainError, match=r"got: loss .*reconstruction.* is not finite"):
        run(unit_settings, learning_rate=1e30, steps=8)
    assert load_checkpoint(Path(str(unit_settings["run"]))) is None


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"generator_options": TINY | {"shared": 0}}, "shared: got 0, expected at least 1"),
        ({"overlap_crops": 3}, "overlap_crops: got 3, expected 0, or 5 and more"),
        ({"kl_weight": -1.0}, "kl_weight: got -1.0, expected a number from 0 on"),
        ({"cycle_weight": True}, "cycle_weight: got True, expected float"),
    ],
)
def test_bad_options(unit_settings: Settings, option: Settings, told: str) -> None:
    with pytest.raises(TrainError, match=told):
        run(unit_settings, **option)
