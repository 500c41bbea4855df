"""Write one stage into `dvc.lock` and leave the lines of the others as they are.

DVC parses the whole file and writes it anew for each stage, with a slow parser that
keeps comments: most of what a stage costs beside its own work. The lines of the stage
come from DVC here too, so that the file is the same to the byte. Whatever is not as DVC
3 has it, in its code or in the file, is left to DVC.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvc import dvcfile

from stages.common.volume import write_text

HEAD = "schema: '2.0'\nstages:\n"
# Nothing else stands at the margin of what DVC writes below HEAD, and no comments.
_FOREIGN = re.compile(r"^(?:[^ \n]| [^ ]| *#)", re.MULTILINE)
# The next stage, two spaces from the margin.
_NEXT = re.compile(r"^  [^ ]", re.MULTILINE)
# `&id001` or `*id001`: DVC numbers them through the whole file.
_ANCHOR = re.compile(r"[&*]id\d{3}")

log = logging.getLogger("dvc.mendmri")


def with_stage(text: str, entry: str) -> str | None:
    """Put a stage in its place, or at the end.

    Args:
        text: of dvc.lock.
        entry: the lines of a stage, indented as in dvc.lock.

    Returns:
        The new text; None where the file is not laid out as DVC does it.
    """
    key = entry.partition("\n")[0]
    plain = _NEXT.match(key) and key.endswith(":") and not key.startswith("  ?")
    if not text.startswith(HEAD) or not text.endswith("\n") or not plain:
        return None
    if _FOREIGN.search(text, len(HEAD)) or _ANCHOR.search(entry):
        return None
    before, found, after = text.partition(f"\n{key}\n")
    if not found:
        return text + entry
    following = _NEXT.search(after)
    return f"{before}\n{entry}{after[following.start() :] if following else ''}"


def dump_stages(self: Any, stages: Sequence[Any], **kwargs: Any) -> None:
    """Stands in for `Lockfile.dump_stages`, which does what this cannot."""
    if not _dump(self, stages, **kwargs):
        _original(self, stages, **kwargs)


def _dump(lock: Any, stages: Sequence[Any], **kwargs: Any) -> bool:
    """Whether it has been written."""
    try:
        from dvc.stage import serialize
        from dvc.utils.serialize import dumps_yaml

        path = Path(lock.path)
        text = old = path.read_bytes().decode()
        for stage in stages:
            data = serialize.to_lockfile(stage, **kwargs)
            head, _, entry = dumps_yaml({"stages": data}).partition("\n")
            changed = with_stage(text, entry) if head == "stages:" else None
            if changed is None or list(data) != [stage.name]:
                return False
            text = changed
        track = lock.repo.scm_context.track_file
        relative = lock.relpath
    except (AttributeError, ImportError, OSError, TypeError, UnicodeError):
        return False  # another DVC, or no dvc.lock yet
    if text != old:
        log.info("Updating lock file '%s'", relative)
        write_text(path, text)
        track(relative)
    return True


_original: Any = dvcfile.Lockfile.dump_stages


def install() -> None:
    """Let DVC write `dvc.lock` so, in this process."""
    dvcfile.Lockfile.dump_stages = dump_stages
