"""What the documents say is true: commands parse, Python blocks run, links lead somewhere."""

import os
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from ziggurat.cards import MODELS
from ziggurat.cli.main import main
from ziggurat.config.fields import field_names
from ziggurat.config.files import list_recipes, load_run
from ziggurat.config.tree import RUNS
from ziggurat.pretrained import PUBLISHED
from ziggurat.weights.catalogue import FILES, files_for

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
]
FIELDS = {f"--{name}" for task in RUNS for name in field_names(task)}


def blocks(language: str) -> list[tuple[str, str]]:
    """Name of the document and content of every block of a language, "" for commands."""
    pattern = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (path.name, code)
        for path in DOCUMENTS
        for found, code in pattern.findall(path.read_text())
        if found == language
    ]


@pytest.mark.parametrize(("document", "code"), blocks("python"))
def test_python_blocks_run(document: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = compile(code, document, "exec")
    if "# needs:" not in code:  # those that need trained weights are run in end_to_end
        exec(program, {})


def documented_commands() -> list[tuple[str, list[str]]]:
    """Every `ziggurat ...` of a code block or between backticks, as words after `ziggurat`."""
    lines = [
        (path.name, line)
        for path in DOCUMENTS
        for line in re.findall(r"`(ziggurat [^`\n]*)`", path.read_text())
    ]
    for name, block in blocks(""):
        joined = block.replace("\\\n", " ")
        lines += [(name, line) for line in joined.splitlines() if "ziggurat " in line]
    commands = []
    for name, line in lines:
        words = shlex.split(line.split("#")[0].replace("[", "").replace("]", ""))
        if "ziggurat" in words:
            commands.append((name, words[words.index("ziggurat") + 1 :]))
    return commands


def fields_of(words: list[str]) -> list[str]:
    """What `load_run` takes of the words after a recipe, and a folder where they name none."""
    given = [
        name if "=" in name else f"{name}={value}"
        for name, value in pairwise([*words, ""])
        if name.startswith("--") and "." in name
    ]
    return ["--data.root=my_data", *given]


def starting_points() -> list[list[str]]:
    """The recipes of the README's table, with their options."""
    table = (ROOT / "README.md").read_text().partition("| you have | start from |\n")[2]
    rows = table.partition("\n\n")[0]
    return [shlex.split(words) for words in re.findall(r"`(\w+(?: --[^`]*)?)`", rows)]


def test_commands_of_the_documents_exist() -> None:
    commands = documented_commands()
    assert len(commands) > 10
    for name, words in commands:
        if words[0].startswith("-"):
            continue
        for word in words:
            if word.startswith("--") and "." in word and word != "--section.field":
                places = {"--data.annotations", "--data.images"}
                known = FIELDS | {"--data.root", "--data.split"} | places
                assert word.split("=")[0] in known, f"{name}: {word} of {words}"
        if words[0] == "train" and words[1:] and words[1].islower() and words[1][0] != "-":
            assert words[1] in list_recipes(), f"{name}: {words}"
            load_run(words[1], fields_of(words[2:]))
    for verb in sorted({words[0] for _, words in commands if not words[0].startswith("-")}):
        assert main([verb, "--help"]) == 0, verb


def test_weights_of_the_starting_points_can_be_downloaded() -> None:
    points = starting_points()
    assert len(points) > 5
    for recipe, *words in points:
        model = load_run(recipe, fields_of(words)).model
        source = model.weights or model.backbone_weights
        if source is None:
            assert recipe.endswith(("_from_scratch", "_imagenet")), recipe
            continue
        file = files_for(model.name)[0] if source == PUBLISHED else FILES[source]
        assert file.url is not None, recipe


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_recipe_that_a_model_names_exists() -> None:
    named = {recipe for card in MODELS.values() for recipe in card.recipes}
    assert named <= set(list_recipes())


def test_no_path_of_one_machine_stands_in_the_project() -> None:
    folders = ("/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/")
    for folder, _, names in os.walk(ROOT / "src"):
        for name in names:
            if name.endswith((".py", ".yaml", ".html")):
                text = (Path(folder) / name).read_text()
                assert not any(path in text for path in folders), name
