"""The house rules of CONTRIBUTING.md that a machine can check: imports point down, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "unseen"

# A room may import the rooms of earlier lines and nothing of its own line but itself.
FLOORS = [
    {"types"},
    {"media", "data", "models"},
    {"evaluate", "prepare"},
    {"explain"},
    {"methods", "scale"},
    {"forge", "recipe", "export", "run_files"},
    {"checkpoint"},
    {"train", "detect", "regions"},
    {"serve"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
GUESTS = {  # a heavy library: the only rooms that may import it
    "lightning": {"train"},
    "ray": {"scale"},
    "fastapi": {"serve"},
    "timm": {"models", "methods"},
}
MODULES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the module in full"
            names += [node.module or ""]
            if node.module == "unseen":
                names += [f"unseen.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top in GUESTS:
            assert here in GUESTS[top], f"{path}: {top} belongs to {GUESTS[top]}"
        there = rest.split(".")[0]
        if top != "unseen" or there not in FLOOR or here == "__init__":
            continue
        if here == there:
            other_method = (
                here == "methods" and rest.count(".") and not rest.startswith(f"methods.{path.stem}")
            )
            assert not other_method, f"{path}: methods do not import each other ({name})"
            continue
        assert FLOOR[there] < FLOOR[here], f"{path}: {here} imports {there}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_fit_a_mind(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400, f"{path}: past 400 lines it is two things"


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in MODULES} - {"__init__", "__main__"} <= set(FLOOR)


@pytest.mark.parametrize("what", ["import unseen", "import unseen.cli", "import unseen.prepare.run"])
def test_light_imports_leave_torch_alone(what: str) -> None:
    code = f"import sys; {what}; print(sorted({{'torch', 'timm', 'lightning', 'polars'}} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
