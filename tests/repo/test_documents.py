"""What the documents say is true: commands parse, Python blocks run, links lead somewhere."""

import os
import re
import shlex
from pathlib import Path

import pytest

from ziggurat.cards import MODELS
from ziggurat.cli.main import main
from ziggurat.config.fields import field_names
from ziggurat.config.files import list_recipes
from ziggurat.config.tree import RUNS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
]
FIELDS = {f"--{name}" for task in RUNS for name in field_names(task)}


def blocks(language: str) -> list[tuple[str, str]]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(path.name, code) for path in DOCUMENTS for code in pattern.findall(path.read_text())]


@pytest.mark.parametrize(("document", "code"), blocks("python"))
def test_python_blocks_run(document: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = compile(code, document, "exec")
    if "# needs:" not in code:  # those that need trained weights are run in end_to_end
        exec(program, {})


def documented_commands() -> list[tuple[str, list[str]]]:
    """Every `ziggurat ...` of a code block or between backticks, as words after `ziggurat`."""
    commands = []
    for path in DOCUMENTS:
        text = path.read_text()
        lines = re.findall(r"`(ziggurat [^`\n]*)`", text)
        for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            joined = block.replace("\\\n", " ")
            lines += [line for line in joined.splitlines() if "ziggurat " in line]
        for line in lines:
            words = shlex.split(line.split("#")[0].replace("[", "").replace("]", ""))
            if "ziggurat" in words:
                commands.append((path.name, words[words.index("ziggurat") + 1 :]))
    return commands


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
    for verb in sorted({words[0] for _, words in commands if not words[0].startswith("-")}):
        assert main([verb, "--help"]) == 0, verb


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
