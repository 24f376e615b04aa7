"""Which files `ziggurat predict` takes, and what it calls its pictures."""

from pathlib import Path

import pytest
from PIL import Image

from ziggurat.cli.main import main
from ziggurat.cli.predict import find_images
from ziggurat.errors import ZigguratError
from ziggurat.inference.output import picture_names


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_give_their_images_and_files_are_taken_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "in/b.PNG", "in/a.jpg", "in/deep/c.webp", "in/notes.txt", "in/.hidden.jpg")
    touch(tmp_path, "odd.dat")
    sources = [tmp_path / "odd.dat", tmp_path / "in", tmp_path / "in" / "a.jpg"]
    found = [str(file.relative_to(tmp_path)) for file in find_images(sources, tmp_path / "out")]
    assert found == ["odd.dat", "in/a.jpg", "in/b.PNG", "in/deep/c.webp"]


def test_earlier_pictures_are_not_taken(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/a.jpg")
    assert find_images([tmp_path], tmp_path / "out") == [tmp_path / "a.jpg"]


def test_bad_folders(tmp_path: Path) -> None:
    touch(tmp_path, "empty/notes.txt", "in/a.jpg")
    with pytest.raises(ZigguratError, match="empty holds no image file"):
        find_images([tmp_path / "in", tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ZigguratError, match="would be written beside"):
        find_images([tmp_path / "in" / "a.jpg"], tmp_path / "in")


def test_names_never_collide() -> None:
    files = [Path(name) for name in ("x/a.jpg", "y/a.png", "a_2.jpg", "A.JPG", "b.jpg", "a")]
    names = picture_names(files)
    assert names == ["a.jpg", "a_2.jpg", "a_2_2.jpg", "A_3.jpg", "b.jpg", "a_4.jpg"]
    assert len({name.lower() for name in names}) == len(files)


def test_larger_photos_are_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back at the end
    touch(tmp_path, "a.jpg")
    words = ["predict", str(tmp_path / "no_weights"), str(tmp_path / "a.jpg"), "-o", str(tmp_path)]
    assert main([*words, "--max_megapixels", "600"]) == 1
    assert Image.MAX_IMAGE_PIXELS == 300_000_000, "Pillow refuses twice as many"
