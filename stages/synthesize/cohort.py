"""Write the volumes of a split and its manifest."""

import shutil
from importlib import import_module
from pathlib import Path

from stages.common.manifest import Manifest, SkippedFile, write_manifest
from stages.synthesize.scanned import convert_split
from stages.synthesize.settings import SynthesizeSettings
from stages.synthesize.simulated import simulate_split


def synthesize_split(
    split: str,
    settings: SynthesizeSettings,
    *,
    raw: Path,
    volumes: Path,
    manifest: Path,
    workers: int | None = None,
) -> Manifest:
    """Simulate a split's subjects, or make volumes of real scans.

    Args:
        split: train, val or test.
        settings: the cohort; `sources.<split>` names the file of this folder that
            knows the source.
        raw: folder of what was downloaded.
        volumes: folder of the split's volumes.
        manifest: the split's manifest, written last.
        workers: processes; None takes one per CPU. It changes no result.

    Returns:
        The manifest, as written.

    Raises:
        ValueError: something is missing, damaged or makes no sense.
    """
    # Without a manifest nothing trusts a folder that an earlier run left.
    manifest.unlink(missing_ok=True)
    shutil.rmtree(volumes, ignore_errors=True)
    source = import_module(f"stages.synthesize.{getattr(settings.sources, split)}")
    skipped: list[SkippedFile] = []
    if hasattr(source, "load"):
        done = simulate_split(
            split, settings, source=source, raw=raw, folder=volumes, workers=workers
        )
    else:
        done, skipped = convert_split(
            split,
            settings,
            source=source,
            downloaded=raw,
            folder=volumes,
            workers=workers,
        )
    content = Manifest(
        split=split,
        volumes=tuple(record for result in done for record in result.volumes),
        dropped_slices=tuple(sorted(ref for result in done for ref in result.dropped)),
        skipped=tuple(skipped),
    )
    write_manifest(manifest, content)
    return content
