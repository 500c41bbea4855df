"""Choose among the files of a local copy before the first one is copied."""

from collections.abc import Callable, Container, Iterable
from pathlib import Path

from stages.download.archives import is_archive, take, take_archive
from stages.download.members import folder_entries
from stages.download.placing import Found, Wanted

# The names that a source knows -> those that it takes.
Choose = Callable[[set[str]], set[str]]


def list_names(local: Path) -> list[str]:
    """Names of the files of a local copy, and of those in its archives.

    Args:
        local: an archive, or a folder; archives directly in it are looked into.

    Raises:
        SourceError: an archive is damaged.
    """
    names: list[str] = []

    def note(name: str) -> None:
        names.append(name)

    archives = [local.resolve()]
    if local.is_dir():
        list(folder_entries(local, note, Found(str(local))))
        archives = sorted(local.iterdir())
    for path in filter(is_archive, archives):
        take_archive(path, local.parent, note)
    return names


def take_chosen(
    local: Path,
    folder: Path,
    rename: Wanted,
    choose: Choose,
    *,
    source: str,
    expected: str,
) -> list[str]:
    """Take what a source chooses of a local copy: see `archives.take`.

    Args:
        local: the local copy.
        folder: where the files go.
        rename: a file's name to its name there; None for a file that is not known.
        choose: of the names there, those that are taken.
        source: who asks, for messages.
        expected: what there should be, for messages.

    Returns:
        The files' names in `folder`, sorted.

    Raises:
        SourceError: there is nothing known, or too little: nothing is copied then.
    """
    known = {new for name in list_names(local) if (new := rename(name)) is not None}
    chosen = choose(known) if known else set()
    wanted = only(rename, chosen)
    return take(local, folder, wanted, source=source, expected=expected)


def only(rename: Wanted, chosen: Container[str]) -> Wanted:
    """Rename files whose new name is chosen, and leave out all others."""

    def wanted(name: str) -> str | None:
        new = rename(name)
        return new if new is not None and new in chosen else None

    return wanted


def of_first(
    names: Iterable[str], subject: Callable[[str], str], count: int | None
) -> set[str]:
    """The names of the first `count` subjects, sorted; of all for None."""
    named = {name: subject(name) for name in names}
    chosen = set(sorted(set(named.values()))[:count])
    return {name for name, its_subject in named.items() if its_subject in chosen}
