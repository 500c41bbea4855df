"""Train the tumour classifier that `pgd` and `multiobjective` attack, and measure it.

Inputs: the clean targets of `data/kspace/{train,val,test}` and their manifests;
`classify`.
Outputs: `data/models/classifier/model.safetensors`, `metrics/classifier.json`.

    python -m stages.classify
"""

import argparse
import json
import logging
from collections.abc import Sequence

from stages.classify.settings import BLOCKS, ClassifySettings
from stages.common import paths
from stages.common.manifest import read_manifest
from stages.common.params import load_block
from stages.common.runtime import stage_run
from stages.common.volume import write_text

log = logging.getLogger("mendmri")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.classify",
        description="Train and measure the tumour classifier that two attacks fool.",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    with stage_run("classify"):
        settings: ClassifySettings = load_block("classify", BLOCKS["classify"])
        manifests = {
            split: read_manifest(paths.manifest(split)) for split in paths.SPLITS
        }
        # PyTorch takes seconds to import: the parameters are right by now.
        from stages.classify.examples import Examples
        from stages.classify.measures import measure
        from stages.classify.training import judge, no_classifier, train_classifier
        from stages.common.tumour_classifier import save_classifier

        splits = {
            split: Examples(
                paths.kspace(split), manifest, settings.lesions, seed=settings.seed
            )
            for split, manifest in manifests.items()
        }
        empty = [split for split, examples in splits.items() if not examples.refs]
        if empty:
            # A cohort of other contrasts has a pipeline too: it may not attack one.
            model, figures = no_classifier(settings, empty[0])
        else:
            model = train_classifier(splits["train"], splits["val"], settings)
            figures = measure(judge(model, splits["test"]), settings.bootstrap)
        save_classifier(
            paths.classifier(),
            model,
            balanced_accuracy=figures["balanced_accuracy"],
            usable=figures["usable"],
        )
        write_text(paths.classifier_metrics(), json.dumps(figures, indent=1) + "\n")
        log.info(
            "%s: balanced accuracy %.3f, AUROC %.3f on %d test images",
            paths.classifier(),
            figures["balanced_accuracy"],
            figures["auroc"],
            figures["n_images"],
        )
        if not figures["usable"]:
            log.warning(
                "THE CLASSIFIER IS NO BETTER THAN CHANCE (balanced accuracy %.3f): "
                "pgd and multiobjective will refuse it. Train longer (classify.epochs) "
                "or give it more slices.",
                figures["balanced_accuracy"],
            )


if __name__ == "__main__":
    main()
