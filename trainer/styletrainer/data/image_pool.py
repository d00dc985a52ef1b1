"""A history of generated pictures for a critic (Shrivastava et al. 2017, as in CycleGAN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from styletrainer.recipe import Step


class ImagePool(nn.Module):
    """The last ``size`` or so generated pictures, RGB float (size, 3, side, side), as buffers of a checkpoint.

    A critic that judges old pictures among the new ones does not forget what it has seen through, and the two sides
    do not run in circles.
    """

    pictures: Tensor
    held: Tensor

    def __init__(self, size: int, side: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("pictures", torch.zeros(size, 3, side, side))
        self.register_buffer("held", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def swap(self, fresh: Tensor) -> Tensor:
        """For each of ``fresh`` (N, 3, side, side) itself, or an older picture whose place it takes.

        While the pool fills, every picture is kept and given back. Then one of two is, by torch's global generator,
        given back and forgotten; the other replaces a random one of the pool, which is given back.
        """
        given = fresh.detach().clone()
        for number in range(len(given) if self.size else 0):
            exchanged, place = bool(torch.rand(()) < 0.5), int(torch.randint(self.size, ()))
            held = int(self.held)
            if held < self.size:
                self.pictures[held] = given[number]
                self.held += 1
            elif exchanged:
                older = self.pictures[place].clone()
                self.pictures[place] = given[number]
                given[number] = older
        return given

    def swap_shared(self, fresh: Tensor, step: Step) -> Tensor:
        """``swap`` of the global batch; returns this process' part.

        All processes have the same pool: it is that of one process with their whole batch, and so is a resumed one.
        """
        if step.world == 1:
            return self.swap(fresh)
        ours = fresh.detach().float().contiguous()  # gloo takes neither bf16 nor channels last
        everybody = [torch.empty_like(ours) for _ in range(step.world)]
        torch.distributed.all_gather(everybody, ours)
        return self.swap(torch.cat(everybody)).chunk(step.world)[step.rank]
