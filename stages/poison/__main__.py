"""Poison a training set.

Inputs: `data/kspace/{train,val,test}` and their manifests, `data/artefacts/`,
`data/models/classifier/` if the attack fools it; `poisonings.<name>`.
Outputs: `data/export/<name>/` (one target file per training volume, poisoned or not)
and `data/truth/poisoning/<name>/` (the record and the twins).

    python -m stages.poison --poisoning mislabel-30
"""

import argparse
import logging
from collections.abc import Sequence

from stages.common import paths
from stages.common.manifest import read_manifest
from stages.common.masks import Sampling
from stages.common.params import load_block, load_row, validate
from stages.common.runtime import stage_run
from stages.poison.base import load_attack, split_images
from stages.poison.poisoning import poison_training_set
from stages.poison.settings import Poisoning

log = logging.getLogger(__name__)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.poison")
    parser.add_argument(
        "--poisoning", required=True, help="a row of `poisonings` in params.yaml"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    name = parse_args(argv).poisoning
    with stage_run("poison", name):
        poisoning = load_row("poisonings", name, Poisoning, "--poisoning")
        attack = load_attack(poisoning.attack)
        key = f"poisonings.{name}.settings"
        params = validate(poisoning.settings, key, attack.Params)
        manifests = {
            split: read_manifest(paths.manifest(split)) for split in paths.SPLITS
        }
        # Only an attack on k-space has to know what of it will be sampled.
        sampling = load_block("sampling", Sampling) if attack.CHANGES_INPUT else None
        splits = split_images(
            manifests, paths.kspace, paths.artefacts(), paths.classifier(), sampling
        )
        for images in splits.values():
            log.info(
                "%s: %d volumes, %d slices",
                images.folder,
                len(images.volumes),
                len(images.manifest.refs()),
            )
        record = poison_training_set(
            name,
            poisoning,
            attack=attack,
            params=params,
            splits=splits,
            export=paths.export(name),
            truth=paths.truth(name),
        )
        change = sum(entry.change_nmse for entry in record.poisoned)
        log.info(
            "%s: %d poisoned slices of %d in scope, mean squared change %.3f of clean",
            paths.export(name),
            len(record.poisoned),
            len(record.scope["train"]),
            change / len(record.poisoned),
        )
        log.info("%s: %d twins", paths.truth(name), len(record.twin_refs()))


if __name__ == "__main__":
    main()
