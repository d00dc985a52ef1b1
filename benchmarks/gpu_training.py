"""Rows of gpu_check: copies between host and GPU, and training."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from gpu_basics import Figures, cuda_torch, host_times, need, picture, spread


def copies(size: tuple[int, int]) -> Figures:
    """One frame there and back, from page-locked and from ordinary memory."""
    torch, figures = cuda_torch(), Figures()
    stream = torch.cuda.Stream()
    for kind in ("pinned", "pageable"):
        host = torch.from_numpy(picture(size)).clone()
        host = host.pin_memory() if kind == "pinned" else host
        device = torch.empty_like(host, device="cuda")

        def there_and_back(host: Any = host, device: Any = device) -> None:
            with torch.cuda.stream(stream):
                device.copy_(host, non_blocking=True)
                host.copy_(device, non_blocking=True)
            stream.synchronize()

        figures |= spread(host_times(there_and_back), f"{kind} ")
    return figures


def training(batch: int, steps: int, crop: int = 192) -> Figures:
    """Images a second of critic, generator and perceptual steps in bf16, with random weights."""
    torch = cuda_torch()
    losses = need("styletrainer.losses")
    generators = need("styletrainer.generators")
    torch.backends.cudnn.benchmark = True
    generator = generators.build_generator("realtime", {"size": "small"}).cuda()
    critic = need("styletrainer.discriminators").PatchGAN().cuda()
    perceive = random_vgg(torch)
    optimizers = [torch.optim.Adam(m.parameters(), 1e-4) for m in (generator, critic)]
    photo, art = (torch.rand(batch, 3, crop, crop, device="cuda") for _ in range(2))
    target = {layer: losses.gram(f)[:1] for layer, f in perceive(art).items()}

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            output = generators.with_margin(generator, photo)
            against = losses.critic_loss(critic(art), critic(output.detach()), "hinge")
        optimizers[1].zero_grad()
        against.backward()
        optimizers[1].step()
        with torch.autocast("cuda", torch.bfloat16):
            features = perceive(output)
            with torch.no_grad():
                wanted = perceive(photo)[2]
            total = losses.content_loss(features[2], wanted) + losses.fooling_loss(critic(output), "hinge")
        total = total + sum(losses.style_loss(f, target[layer]) for layer, f in features.items())
        optimizers[0].zero_grad()
        total.backward()
        optimizers[0].step()

    for _ in range(5):
        step()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30
    return {"images/s": round(batch / statistics.median(seconds), 1), "memory GiB": round(memory, 2)}


def random_vgg(torch: Any) -> Callable[[Any], dict[int, Any]]:
    """VGG-19 up to relu4_1, random: the time does not depend on the weights. RGB -> {block: activation}."""
    blocks, channels = torch.nn.ModuleList(), 3
    for width, convolutions in ((64, 2), (128, 2), (256, 4), (512, 1)):
        layers = [torch.nn.MaxPool2d(2)] if channels > 3 else []
        for _ in range(convolutions):
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
            channels = width
        blocks.append(torch.nn.Sequential(*layers))
    blocks = blocks.cuda().requires_grad_(False)

    def perceive(x: Any) -> dict[int, Any]:
        found = {}
        for index, block in enumerate(blocks):
            found[index] = x = block(x)
        return found

    return perceive
