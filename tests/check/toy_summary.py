"""A toy study: what its parts need, and the outputs that are there or were before."""

import json
import sys
from pathlib import Path

RESULT = Path("metrics/toy.json")
PARTS = ("made-a1", "made-a2")

if __name__ == "__main__":
    there = json.loads(RESULT.read_text()) if RESULT.exists() else []
    if sys.argv[1] == "--needs":
        if there == "damaged":
            sys.exit(2)
        stages = {name: [f"a-{name[-1]}"] for name in PARTS}
        needs = {name: [] if name in there else stages[name] for name in PARTS}
        sys.stdout.write(json.dumps(needs))
    else:
        assert sys.argv[1] == "--commit"
        made = {path.name for path in Path().glob("made-*")}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(sorted(made | set(there))))
