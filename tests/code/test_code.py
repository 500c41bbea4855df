"""Code and parameters of the cells: what an edit changes, and what it leaves alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.code.__main__ import main, write_inputs
from stages.common import paths
from stages.common.cell_inputs import cell_inputs
from stages.common.closure import Imports, code_of_cells, load_sources

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from stages.{0}.work import work\n"
FILES = {
    "stages/__init__.py": "",
    "stages/common/__init__.py": "",
    "stages/common/near.py": "import stages.common.far\n",
    "stages/common/far.py": "",
    "stages/common/late.py": "",
    "stages/common/other.py": "",
    "stages/train/__init__.py": "",
    "stages/train/__main__.py": MAIN.format("train"),
    "stages/train/work.py": "def work():\n    from ..common import late\n",
    "stages/unlearn/__init__.py": "",
    "stages/unlearn/__main__.py": MAIN.format("unlearn"),
    "stages/unlearn/work.py": "from stages.common import near\n",
    "stages/unlearn/ssd.py": "from stages.unlearn.work import work\nTABLE = 'a.tsv'\n",
    "stages/unlearn/scrub.py": "",
    "stages/unlearn/a.tsv": "1\t2\n",
    "stages/unlearn/b.tsv": "1\t2\n",
    "stages/unlearn/README.md": "# unlearn\n",
    "stages/check/__init__.py": "",
    "stages/check/__main__.py": "",
}
PARAMS = """\
loss: {l1_weight: 1.0}
model: {chans: 8}
sampling: {seed: 7}
train: {epochs: 36, lr: 0.003}
unlearn: {seed: 41, finetune: {epochs: 2}, ssd: {alpha: 0.1, note: "a\\nb"}, scrub: {}}
"""
TRAIN = {"train", "train_continue"}
UNLEARN = {"unlearn/ssd", "unlearn/scrub", "unlearn/work"}
# A changed file -> the kinds of cells whose code it is, `check` apart.
WHOSE = {
    "stages/common/far.py": UNLEARN,
    "stages/common/late.py": TRAIN,
    "stages/common/other.py": set(),
    "stages/train/work.py": TRAIN,
    "stages/unlearn/ssd.py": {"unlearn/ssd"},
    "stages/unlearn/scrub.py": {"unlearn/scrub"},
    "stages/unlearn/a.tsv": {"unlearn/ssd"},
    "stages/unlearn/b.tsv": set(),
}


@pytest.fixture
def project(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


@pytest.mark.parametrize("path", WHOSE)
def test_an_edit_changes_the_hashes_of_the_cells_that_run_it(project, path):
    before = cell_inputs(project)
    with (project / path).open("a") as file:
        file.write("EDITED = 1\n")
    after = cell_inputs(project)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"check"} | WHOSE[path]


@pytest.mark.parametrize("path", [path for path in WHOSE if path.endswith(".py")])
def test_a_remark_changes_nothing(project, path):
    before = cell_inputs(project)
    text = (project / path).read_text()
    (project / path).write_text(f'"""What it is for."""\n\n{text}# edited\n')
    assert cell_inputs(project) == before


def test_a_file_that_nothing_imports_is_named_if_it_is_no_python(project):
    (project / "stages/common/other.py").write_text("def f(:\n")
    with pytest.raises(ValueError, match=r"^stages/common/other.py is no Python, lin"):
        cell_inputs(project)


@pytest.mark.parametrize(
    ("old", "new", "whose"),
    [
        ("0.1", "0.2", {"unlearn/ssd"}),
        ("seed: 41", "seed: 42", UNLEARN),
        ("finetune: {epochs: 2}", "finetune: {epochs: 3}", {"train_continue"}),
        ("chans: 8", "chans: 9", TRAIN),
        ("lr: 0.003", "lr: 0.004", TRAIN | UNLEARN),
        ("scrub: {}", "scrub: {}, other: {}", set()),
        ("epochs: 36, lr: 0.003", "lr: 3.0e-3, 'epochs': 36", set()),
    ],
)
def test_a_parameter_changes_the_cells_that_read_it(project, old, new, whose):
    before = cell_inputs(project)
    path = project / "params.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    after = cell_inputs(project)
    assert {name for name in before if before[name] != after[name]} == whose


def test_the_parameters_are_in_the_file(project):
    text = cell_inputs(project)["unlearn/ssd"]
    assert "# params.yaml:\n# loss:\n#   l1_weight: 1.0\n" in text
    assert "# unlearn.ssd:\n#   alpha: 0.1\n" in text


ROWS = "poisonings: {good: {attack: ssd}, no: {attack: other}, ../up: {attack: ssd}}\n"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "train: null\nunlearn: 3\npoisonings: [a]\nscenarios: nothing",
        "train: {1: a, b: 2001-01-01}\nunlearn: {ssd: .nan}\n" + ROWS,
        "poisonings: {a: 1, b: {attack: {}}, 3: {attack: [1]}, c: {}}",
    ],
)
def test_what_is_wrong_with_params_is_for_check_to_say(project, text):
    (project / "params.yaml").write_text(text)
    assert write_inputs(project) >= len(TRAIN | UNLEARN)
    assert not (project / "data/up.txt").exists()


@pytest.mark.parametrize(
    ("text", "line"), [("a: [", "params.yaml is not valid YAML"), ("- a", "no mapping")]
)
def test_params_that_cannot_be_read_are_one_line(
    project, monkeypatch, capsys, text, line
):
    monkeypatch.chdir(project)
    (project / "params.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert line in capsys.readouterr().err


def test_a_readme_is_no_code(project):
    before = cell_inputs(project)
    (project / "stages/unlearn/README.md").write_text("# other\n")
    assert cell_inputs(project) == before


def test_what_is_gone_leaves_no_file(project):
    assert write_inputs(project) == len(cell_inputs(project))
    written = {path for path in (project / paths.CODE).rglob("*") if path.is_file()}
    assert written == {project / paths.code(name) for name in cell_inputs(project)}
    (project / "stages/unlearn/scrub.py").unlink()
    write_inputs(project)
    assert not (project / paths.code("unlearn/scrub")).exists()
    assert (project / paths.code("unlearn/ssd")).exists()


def test_the_files_are_what_sha256sum_checks(project):
    write_inputs(project)
    path = paths.code("unlearn/ssd")
    command = ["sha256sum", "--check", "--strict", str(path)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (project / "stages/common/far.py").write_text("x = 1\n")
    done = subprocess.run(command, cwd=project, check=False, capture_output=True)
    assert b"stages/common/far.py: FAILED" in done.stdout


def test_a_file_that_is_no_python_is_named(project):
    (project / "stages/train/work.py").write_text("def work(:\n")
    with pytest.raises(ValueError, match=r"stages/train/work\.py is no Python, line 1"):
        cell_inputs(project)


def test_a_file_that_is_not_text_is_named(project):
    (project / "stages/train/work.py").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"stages/train/work\.py is not UTF-8"):
        cell_inputs(project)


PROBE = """
import importlib, sys
importlib.import_module("{module}")
for name, module in sys.modules.items():
    if name.split(".")[0] == "stages" and getattr(module, "__file__", None):
        print(module.__file__)
"""


@pytest.mark.parametrize(
    "name",
    ["train", "evaluate", "report", "unlearn/ssd", "poison/mislabel", "download/m4raw"],
)
def test_what_python_imports_is_hashed(name):
    """The imports are read from text: Python itself must not know of more."""
    module = f"stages.{name.replace('/', '.')}" + ("" if "/" in name else ".__main__")
    command = [sys.executable, "-c", PROBE.format(module=module)]
    answer = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    )
    imported = {
        Path(line).relative_to(ROOT).as_posix() for line in answer.stdout.split()
    }
    hashed = code_of_cells(load_sources(ROOT))[name]
    assert len(imported) > 3
    assert imported - hashed == set()


def test_imports_inside_functions_count():
    sources = load_sources(ROOT)
    path = "stages/unlearn/ssd.py"
    text = sources[path] + "\ndef f():\n    from stages.common import truth\n"
    imports = Imports(sources | {path: text})
    assert "stages/common/truth.py" in imports.closure([path])
    assert "stages/common/truth.py" not in Imports(sources).closure([path])


def test_check_reads_everything():
    sources = load_sources(ROOT)
    assert code_of_cells(sources)["check"] == set(sources)
