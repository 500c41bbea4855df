"""In which batches slices come: those of one process, dealt out to the ranks."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from stages.common.launch import launch

Shape = tuple[int, ...]


class Part(NamedTuple):
    """What this rank loads of a batch.

    Attributes:
        indices: of the slices; never empty.
        total: slices of the whole batch, over all ranks.
        share: slices that are this rank's over the mean number per rank. 1 in a process
            of its own; 0 when the batch has fewer slices than there are ranks, and this
            rank, which may not skip the step, was given somebody else's.
    """

    indices: list[int]
    total: int
    share: float


class BatchOrder(Sampler[Part]):
    """Batches of one shape each, in order or drawn from (seed, epoch).

    Whatever the number of ranks, the batches are those of one process. A rank has its
    part of each or, with `whole`, every `world_size`-th of them.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        whole: bool = False,
    ) -> None:
        self.shapes = shapes
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.whole = whole
        self.epoch = 0

    def __iter__(self) -> Iterator[Part]:
        here = launch()
        if self.whole:
            for batch in self._batches()[here.rank :: here.world_size]:
                yield Part(batch, len(batch), 1.0)
            return
        for batch in self._batches():
            mine = batch[here.rank :: here.world_size]
            share = len(mine) * here.world_size / len(batch)
            yield Part(mine or batch[:1], len(batch), share)

    def __len__(self) -> int:
        sizes = Counter(self.shapes).values()
        batches = range(sum(-(-size // self.batch_size) for size in sizes))
        here = launch()
        return len(batches[here.rank :: here.world_size] if self.whole else batches)

    def _batches(self) -> list[list[int]]:
        """The epoch's batches as one process has them."""
        order = np.arange(len(self.shapes))
        rng = None
        if self.shuffle_seed is not None:
            rng = np.random.default_rng([self.shuffle_seed, self.epoch])
            rng.shuffle(order)
        groups: dict[Shape, list[int]] = {}
        for index in order.tolist():
            groups.setdefault(self.shapes[index], []).append(index)
        batches = [
            group[start : start + self.batch_size]
            for group in groups.values()
            for start in range(0, len(group), self.batch_size)
        ]
        if rng is not None and len(groups) > 1:
            rng.shuffle(batches)
        return batches
