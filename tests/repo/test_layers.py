"""Imports point down, and no file is long."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "ziggurat"

# Each layer may import those before it and itself.
LAYERS = [
    {"class_lists", "errors", "keypoints", "preprocessing", "types"},
    {"cards"},
    {"ops"},
    {"layers", "losses"},
    {"backbones", "necks", "heads"},
    {"models"},
    {"systems"},
    {"zoo"},
    {"checkpoints"},
    {"weights"},
    {"pretrained"},
    {"timm_bridge"},
    {"recipes"},
    {"config"},
    {"data", "metrics"},
    {"visualize"},
    {"fast"},
    {"inference"},
    {"bench", "verification"},
    {"engine"},
    {"doctor"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ONLY = {  # narrower than "everything below"
    "engine": set(RANK) - {"bench", "verification"},
    "data": {"class_lists", "types", "keypoints", "preprocessing", "errors", "ops", "data"},
    "metrics": {"types", "keypoints", "errors", "ops", "metrics"},
    "visualize": {"class_lists", "types", "keypoints", "errors", "ops", "metrics", "visualize"},
    "config": {"errors", "recipes", "config"},
    "backbones": {"types", "keypoints", "errors", "ops", "layers", "losses", "backbones"},
    "necks": {"types", "keypoints", "errors", "ops", "layers", "losses", "necks"},
    "heads": {"types", "keypoints", "errors", "ops", "layers", "losses", "heads"},
}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name}: a relative import"
            if node.module == "ziggurat":  # from ziggurat import zoo
                names = {alias.name for alias in node.names} - {"__version__"}
                assert names <= RANK.keys(), f"{path.name}: import {names} from their own modules"
                modules |= {f"ziggurat.{name}" for name in names}
            else:
                modules.add(node.module)
    return modules


def test_every_layer_is_a_package_or_a_module() -> None:
    assert {layer_of(path) for path in FILES} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    layer = layer_of(path)
    assert layer in RANK, f"{layer} has no place among the layers"
    for module in imported_modules(path):
        if not module.startswith("ziggurat."):
            continue
        used = module.split(".")[1]
        assert RANK[used] <= RANK[layer], f"{layer} imports {used}, which lies above it"
        assert used in ONLY.get(layer, {used}), f"{layer} must not import {used}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_the_engine_imports_lightning(path: Path) -> None:
    if layer_of(path) == "engine":
        return
    lightning = {m for m in imported_modules(path) if m.split(".")[0].startswith("lightning")}
    assert not lightning


def test_no_file_is_long() -> None:
    long = {str(p.relative_to(SOURCE)): len(p.read_text().splitlines()) for p in FILES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}
