"""The order of the folders, and what training must not import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "wakedream"
ORDER = [("notation", "errors", "config", "runs", "owned", "progress", "device"), ("data",), ("environments",),
         ("model",), ("transformer",), ("perceptual",), ("tokenizer",), ("dynamics",), ("agent",), ("world",),
         ("evaluation",), ("training",), ("stages",), ("presets",), ("bench",), ("play",), ("cli", "__main__")]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MODELS = {"data", "environments", "model", "transformer", "perceptual", "tokenizer", "dynamics", "agent", "world",
          "evaluation"}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def modules(path: Path) -> set[str]:
    """All that a file imports, anywhere in it: modules, and names that may be modules."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(path: Path) -> set[str]:
    """The parts of wakedream that a file imports."""
    parts = {name.split(".")[1] for name in modules(path) if name.startswith("wakedream.")}
    return parts & RANK.keys()


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Files that import each other, by whatever way, each circle once."""
    found, done = [], set()

    def follow(name: str, way: list[str]) -> None:
        if name in way:
            found.append(sorted(way[way.index(name):]))
        elif name not in done:
            for other in sorted(arrows[name]):
                follow(other, [*way, name])
            done.add(name)

    for name in sorted(arrows):
        follow(name, [])
    return found


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Not inside a function either."""
    names = {".".join(("wakedream", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    arrows = {name: modules(path) & names.keys() - {name} for name, path in names.items()}
    assert circles(arrows) == []
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set()}) == [["a", "b", "c"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_import_from_their_folder_and_those_before(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    own = name.split("/")[0].removesuffix(".py")
    assert own in RANK, f"{name}: where does it stand in the order?"
    wrong = {other for other in imported(path) if RANK[other] > RANK[own]}
    assert not wrong, f"{name} imports {sorted(wrong)}, which come after it"
    if own == "training":
        assert not imported(path) & MODELS, f"{name} knows a model: {sorted(imported(path) & MODELS)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_drawers_for_everything(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc", "core", "base"}


def python(code: str, *arguments: str) -> str:
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                            timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


LIGHT = [path for path in FILES if path.stem in ("config", "cli", "summary", "interrupt")
         or (path.stem.endswith("_config") and path.stem != "run_config") or path.parent.name == "presets"]


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: str(path.relative_to(ROOT)))
def test_configs_are_free_of_torch(path: Path) -> None:
    module = ".".join(("wakedream", *path.relative_to(ROOT).with_suffix("").parts))
    python(f"import sys, {module}; assert not {{'torch', 'numpy', 'tyro', 'rich'}} & sys.modules.keys(), "
           "sorted({'torch', 'numpy', 'tyro', 'rich'} & sys.modules.keys())")


BLOCKED = """
import sys
from pathlib import Path

class Blocked:
    names = {"av", "gymnasium", "crafter", "tyro", "beartype"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise AssertionError(f"training imports {name}")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])
"""
TRAIN = {
    "tokenizer": """
from conftest import small_run
from wakedream.stages.tokenizer import train_tokenizer
train_tokenizer(small_run(), folder / "data", folder / "run", "debug")
""",
    "dynamics": """
from conftest import small_dynamics
from wakedream.stages.dynamics import train_dynamics
train_dynamics(small_dynamics(folder / "eyes"), folder / "data", folder / "run", "debug")
assert (folder / "run" / "best").exists()  # evaluated, too
""",
}
MAKE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import conftest
conftest.write_played(Path(sys.argv[2]) / "data")
conftest.write_tokenizer(Path(sys.argv[2]) / "eyes")
"""


@pytest.mark.parametrize("stage", TRAIN)
def test_training_on_a_prepared_data_set_needs_none_of_what_made_it(tmp_path: Path, stage: str) -> None:
    """Nor does encoding it."""
    stages = str(Path(__file__).parent / "stages")
    python(MAKE, stages, str(tmp_path))
    python(BLOCKED + TRAIN[stage], stages, str(tmp_path))
    assert (tmp_path / "run" / "checkpoints" / "latest").exists()


def test_the_tour_names_every_file() -> None:
    """Those of a folder under its own heading."""
    tour = (ROOT.parent / "docs" / "tour.md").read_text(encoding="utf-8")
    under = {part.split("/")[0]: part for part in tour.split("\n### ")}
    files = [path.relative_to(ROOT) for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py"]
    missing = [path for path in files if not {f"`{Path(*path.parts[1:])}`", f"`{path}`"}
               & set(re.findall("`.+?`", under.get(path.parts[0], tour)))]
    assert missing == []
