"""Loss-based membership inference: does a model remember what it should not know?

Attack of Yeom et al. ("Privacy risk in machine learning: analyzing the connection to
overfitting", IEEE CSF 2018) with the loss against the poisoned target: a model that
still holds what it learned from a poisoned slice comes nearer to its target than to the
target that an unseen slice would have been given.
"""

import pandas as pd

from stages.report.bootstrap import Bootstrap, Estimate
from stages.report.detection import estimates
from stages.report.measures import Model

MEMBERS, STRANGERS = "forget_hidden", "scope_val"


def membership_auroc(model: Model, bootstrap: Bootstrap) -> Estimate:
    """Area under the ROC curve of PSNR to the poisoned target, own k-space, dB.

    Members: poisoned training slices that nobody has reported. Strangers: the twins of
    unseen slices in the scope of the validation split, which is of the same anatomies.
    0.5 is chance; the value to reach is the oracle's, which has seen neither.

    Args:
        model: its rows in a scenario.
        bootstrap: draws subjects.
    """
    parts = [
        model.rows[split][["subject_id", "psnr_vs_export"]].assign(poisoned=member)
        for split, member in ((MEMBERS, True), (STRANGERS, False))
    ]
    rows = pd.concat(parts).rename(columns={"psnr_vs_export": "score"})
    return estimates(rows, 0, bootstrap)["auroc"]
