"""What each rank of the importance test runs.

torchrun --nproc-per-node 2 -m tests.unlearn.importance_ranks <folder>
"""

import sys
from pathlib import Path

import torch

from stages.common.devices import rank
from stages.common.fit import Cost
from stages.common.training import mean_recon_loss
from stages.unlearn.importance import Importance, importances
from tests.unlearn.toy_case import LOSS, open_case


def measure(folder: Path) -> tuple[list[Importance], Cost]:
    """Importances of the current folder's case: 3 and 15 slices, uneven batches."""
    model, case = open_case(folder / "scratch")
    cost = Cost()
    found = importances(
        model,
        [case.forget, case.retain],
        mean_recon_loss(LOSS),
        cost=cost,
        desc="",
        batch_size=4,
    )
    return found, cost


if __name__ == "__main__":
    target = Path(sys.argv[1])
    importance, spent = measure(target)
    torch.save((importance, vars(spent)), target / f"{rank()}.pt")
