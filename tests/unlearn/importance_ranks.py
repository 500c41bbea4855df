"""What each rank of the importance test runs.

torchrun --nproc-per-node 2 -m tests.unlearn.importance_ranks <folder>
"""

import sys
from pathlib import Path

import torch

from stages.common.devices import rank
from stages.common.fit import Cost
from stages.common.training import mean_recon_loss
from stages.unlearn.importance import Importance, importance
from tests.unlearn.toy_case import LOSS, open_case


def measure(folder: Path) -> tuple[list[Importance], Cost]:
    """Importances of the current folder's case: one batch of 3 slices, four of 15."""
    model, case = open_case(folder / "scratch")
    cost, loss = Cost(), mean_recon_loss(LOSS)
    found = [
        importance(model, part, loss, cost=cost, desc="", batch_size=4)
        for part in (case.forget, case.retain)
    ]
    return found, cost


if __name__ == "__main__":
    target = Path(sys.argv[1])
    importances, spent = measure(target)
    torch.save((importances, vars(spent)), target / f"{rank()}.pt")
