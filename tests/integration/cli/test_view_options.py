"""What the command line says about parts and views of an image."""

import argparse

import pytest

from ziggurat.cli.main import main
from ziggurat.cli.views import add_view_arguments, views_of
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.sliding import SlidingWindows
from ziggurat.inference.tiles import Tiles


def read(*words: str) -> tuple[Tiles | SlidingWindows | None, Augmentation | None]:
    parser = argparse.ArgumentParser()
    add_view_arguments(parser, after="the files")
    return views_of(parser.parse_args(words))


def test_what_is_asked_for() -> None:
    assert read() == (None, None)
    assert read("--tile_size", "400") == (Tiles(400, 100), None)
    assert read("--tile_size", "400", "--tile_overlap", "0") == (Tiles(400, 0), None)
    assert read("--window", "512") == (SlidingWindows(512, 171), None)
    assert read("--window", "480", "--window_overlap", "0") == (SlidingWindows(480, 0), None)
    assert read("--flip") == (None, Augmentation(flip=True, scales=(1.0,)))
    assert read("--scales", "0.5", "1") == (None, Augmentation(flip=False, scales=(0.5, 1.0)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tile_overlap", "3"], "--tile_overlap says how tiles overlap, but without --tile_size"),
        (["--tile_size", "400", "--tile_overlap", "400"], "less than their size of 400 pixels"),
        (["--window_overlap", "3"], "--window_overlap says how windows overlap, but without"),
        (["--window", "63"], "windows must have at least 64 pixels a side, got 63"),
        (["--window", "64", "--window_overlap", "64"], "less than their size of 64 pixels"),
        (["--window", "64", "--tile_size", "64"], "before they are resized and --window after"),
        (["--scales", "1", "1"], "scales must be different factors"),
    ],
)
def test_what_does_not_go_together(words: list[str], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        read(*words)


@pytest.mark.parametrize(("verb", "after"), [("predict", "the files"), ("evaluate", "the weights")])
def test_help_says_where_lists_stand(
    verb: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    assert f"evaluation; give it after {after}" in " ".join(capsys.readouterr().out.split())
