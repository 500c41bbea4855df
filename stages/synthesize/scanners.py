"""Which of the simulated scanners a subject lies in."""

from stages.synthesize.settings import Scanner


def whose_turn(scanners: dict[str, Scanner], number: int) -> str:
    """Name of the scanner of a split's subject, by turns that follow the weights.

    Each turn goes to the scanner that is furthest behind its share, so that every
    run of subjects holds all scanners, and one more subject moves no other.

    Args:
        scanners: by name.
        number: of the subject in its split, from 0.
    """
    total = sum(scanner.weight for scanner in scanners.values())
    turns = dict.fromkeys(scanners, 0)
    for turn in range(number + 1):
        behind = {
            name: scanner.weight * (turn + 1) - turns[name] * total
            for name, scanner in scanners.items()
        }
        name = max(behind, key=behind.__getitem__)
        turns[name] += 1
    return name


def first_scanner(scanners: dict[str, Scanner]) -> Scanner:
    """The scanner that magnitude images are measured with."""
    return next(iter(scanners.values()))
