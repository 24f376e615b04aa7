"""Lists, LMDB and tar shards give what class folders give, and every wrong one is explained."""

import io
import multiprocessing
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from ziggurat.data import pack_shards
from ziggurat.data.check import check_dataset, find_datasets
from ziggurat.data.classification import eval_transform
from ziggurat.data.items import Unreadable
from ziggurat.data.labelled_images import open_images, open_storage, storage_kind
from ziggurat.data.loading import EvaluationLoader, TrainingLoader
from ziggurat.data.names import NameTable
from ziggurat.data.pack import PackFormat, pack
from ziggurat.data.preview import read_preview
from ziggurat.data.storage import Storage
from ziggurat.data.tar_index import scan_shard
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CenterCrop
from ziggurat.types import Sample

TRANSFORM = eval_transform(CenterCrop(resize=16, crop=16))
SPLITS = (("train", 5), ("val", 2))
FILES = ("a b.JPG", "a.b.png", "deep/2.jpg", "3.jpg", "4.jpg")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders; a name with a space, one with dots, one in a deeper folder."""
    root = tmp_path / "folders"
    rng = np.random.default_rng(0)
    for split, count in SPLITS:
        for name in ("zebra", "ant"):
            for index in range(count):
                path = (
                    root
                    / split
                    / name
                    / ("a b.JPG", "a.b.png", "deep/2.jpg", "3.jpg", "4.jpg")[index]
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path)
    return root


def paths_and_labels(root: Path, split: str) -> list[tuple[str, int]]:
    storage = open_storage(root, split)
    names = [os.path.relpath(storage.name(i), root) for i in range(len(storage.labels))]
    return list(zip(names, storage.labels.tolist(), strict=True))


def write_lists(folders: Path, root: Path, name: str, base: str = "") -> None:
    """Write the list of each split; `base` is what paths are relative to."""
    root.mkdir(exist_ok=True)
    for split, _ in SPLITS:
        lines = [
            f"{os.path.relpath(path, base) if base else path} {label}\n"
            for path, label in paths_and_labels(folders, split)
        ]
        file = root / name.format(split)
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(line.format(split) for line in lines))
    (root / "classes.txt").write_text("ant\nzebra\n")


def lists(folders: Path, root: Path) -> None:
    write_lists(folders, root, "{}_list.txt")
    for split, _ in SPLITS:
        shutil.copytree(folders / split, root / split)


def absolute_lists(folders: Path, root: Path) -> None:
    root.mkdir()
    for split, _ in SPLITS:
        lines = [
            f"{folders / path}\t{label}\r\n" for path, label in paths_and_labels(folders, split)
        ]
        (root / f"{split}.txt").write_bytes(("\ufeff" + "".join(lines)).encode())
    (root / "classes.txt").write_text("ant\nzebra\n")


def packed(kind: PackFormat) -> Callable[[Path, Path], None]:
    def make(folders: Path, root: Path) -> None:
        pack(folders, root, kind, shard_bytes=4000)

    return make


def official_lmdb(folders: Path, root: Path) -> None:
    """As the tool of the official GPViT lays it out: keys are file names, labels in meta/."""
    (root / "meta").mkdir(parents=True)
    for split, _ in SPLITS:
        storage = open_storage(folders, split)
        target = root / "imagenet_lmdb" / split
        target.mkdir(parents=True)
        lines = []
        with (
            lmdb.open(str(target), map_size=1 << 24) as environment,
            environment.begin(write=True) as transaction,
        ):
            for index, label in enumerate(storage.labels.tolist()):
                key = f"n{label}_{index}.JPEG"
                transaction.put(key.encode(), storage.read(index))
                lines.append(f"n{label}/{key} {label}\n")
            transaction.put(b"total", str(len(storage.labels)).encode())
        (root / "meta" / f"{split}.txt").write_text("".join(lines))
    (root / "classes.txt").write_text("ant\nzebra\n")


def foreign_shards(folders: Path, root: Path) -> None:
    """As the webdataset package writes them, all splits in one folder and without an index."""
    root.mkdir()
    for split, _ in SPLITS:
        storage = open_storage(folders, split)
        pattern = str(root / f"my-{split}-%04d.tar")
        with webdataset.ShardWriter(pattern, maxcount=3, verbose=0) as writer:
            for index, label in enumerate(storage.labels.tolist()):
                suffix = storage.name(index).rpartition(".")[2].lower()
                part = {"cls": label} if index % 2 else {"json": {"label": label, "x": 1}}
                writer.write({"__key__": f"s/{index:04d}", suffix: storage.read(index), **part})
    (root / "classes.txt").write_text("ant\nzebra\n")


STORAGES = {
    "lists": (lists, "image_list"),
    "absolute lists": (absolute_lists, "image_list"),
    "lmdb": (packed("lmdb"), "image_lmdb"),
    "official lmdb": (official_lmdb, "image_lmdb"),
    "shards": (packed("shards"), "image_shards"),
    "foreign shards": (foreign_shards, "image_shards"),
}


@pytest.mark.parametrize("kind", STORAGES)
def test_every_storage_gives_the_same(folders: Path, tmp_path: Path, kind: str) -> None:
    make, layout = STORAGES[kind]
    root = tmp_path / "other"
    make(folders, root)
    for split, count in SPLITS:
        expected = open_images(folders, split, TRANSFORM, train=True)
        found = open_images(root, split, TRANSFORM, train=True)
        assert found.classes == expected.classes == ("ant", "zebra")
        assert len(found) == len(expected) == 2 * count
        for index in range(len(expected)):
            one, other = expected[(3, index)], found[(3, index)]
            assert isinstance(one, Sample) and isinstance(other, Sample)
            assert torch.equal(one.image, other.image)
            assert one.target == other.target
            assert expected.storage.read(index) == found.storage.read(index)
    assert find_datasets(root) == ((root, layout),)
    check = check_dataset(root)
    assert check.findings == ()
    assert [(s.name, s.per_class) for s in check.splits] == [
        ("train", {"ant": 5, "zebra": 5}),
        ("val", {"ant": 2, "zebra": 2}),
    ]
    assert read_preview(check.examples[0]).image.size == (24, 20)


@pytest.mark.parametrize(("kind", "layout"), [(None, "image_folder"), ("lists", "image_list")])
def test_archives_beside_what_was_unpacked_are_no_shards(
    folders: Path, tmp_path: Path, kind: str | None, layout: str
) -> None:
    root = folders
    if kind is not None:
        root = tmp_path / "other"
        STORAGES[kind][0](folders, root)
    expected = paths_and_labels(root, "train")
    for name in ("train.tar", "ILSVRC2012_img_train.tar", "train/ant.tar"):
        (root / name).write_bytes(b"an archive of class folders")
    assert storage_kind(root, "train") == layout
    assert paths_and_labels(root, "train") == expected


def test_shards_may_have_an_empty_folder_beside_them(folders: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    foreign_shards(folders, root)
    (root / "train").mkdir()
    (root / "train" / ".DS_Store").touch()
    assert storage_kind(root, "train") == "image_shards"


@pytest.mark.parametrize(
    ("kind", "start"), [("lmdb", "fork"), ("shards", "fork"), ("lmdb", "spawn")]
)
def test_workers_read_every_storage(folders: Path, tmp_path: Path, kind: str, start: str) -> None:
    STORAGES[kind][0](folders, tmp_path / "other")
    dataset = open_images(tmp_path / "other", "train", TRANSFORM, train=False)
    _ = dataset[0]  # open before the workers start
    loader = EvaluationLoader(dataset, batch_size=3, divisor=1, workers=1)
    loader.multiprocessing_context = multiprocessing.get_context(start)
    batches = list(loader)
    assert [info.image_id for batch in batches for info in batch.infos] == list(range(10))
    del loader


def test_names_are_shared_with_workers_that_are_spawned() -> None:
    table = NameTable.of(b"%09d" % number for number in range(100_000))
    assert table[0] == b"000000000" and table[99_999] == b"000099999"
    described = len(multiprocessing.reduction.ForkingPickler.dumps(table))
    assert described < 10_000 < len(pickle.dumps(table))


@pytest.mark.parametrize("kind", ["lmdb", "shards"])
def test_a_packed_run_goes_on_where_it_stopped(folders: Path, tmp_path: Path, kind: str) -> None:
    STORAGES[kind][0](folders, tmp_path / "other")

    def loader(root: Path) -> TrainingLoader:
        dataset = open_images(root, "train", TRANSFORM, train=True)
        options = {"divisor": 1, "workers": 0, "seed": 5, "drop_last": True}
        return TrainingLoader(dataset, batch_size=2, group_by_aspect=False, **options)  # type: ignore[arg-type]

    whole = [batch.images for batch in loader(folders)]
    stopped = loader(tmp_path / "other")
    iterator = iter(stopped)
    for expected in whole[:2]:
        assert torch.equal(next(iterator).images, expected)
    resumed = loader(tmp_path / "other")
    resumed.load_state_dict(stopped.state_dict())
    rest = [batch.images for batch in resumed]
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[2:], strict=True))


# The package leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_webdataset_package_reads_our_shards(folders: Path, tmp_path: Path) -> None:
    pack(folders, tmp_path / "out", "shards", shard_bytes=4000)
    shards = sorted(str(path) for path in (tmp_path / "out" / "train").glob("*.tar"))
    assert len(shards) > 1
    stored = open_storage(folders, "train")
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [int(sample["cls"]) for sample in samples] == stored.labels.tolist()
    for index, sample in enumerate(samples):
        data = next(sample[part] for part in ("jpg", "png") if part in sample)
        assert data == stored.read(index)


def test_the_index_of_foreign_shards_is_kept_until_they_change(
    folders: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "other"
    foreign_shards(folders, root)
    before = sorted(root.iterdir())
    scanned: list[Path] = []

    def count(path: Path) -> object:
        scanned.append(path)
        return scan_shard(path)

    monkeypatch.setattr("ziggurat.data.tar_index.scan_shard", count)
    first = open_storage(root, "train")
    assert len(scanned) == 4
    second = open_storage(root, "train")
    assert len(scanned) == 4
    assert [second.read(i) for i in range(10)] == [first.read(i) for i in range(10)]
    assert sorted(root.iterdir()) == before, "the data set itself is left alone"
    (root / "my-train-0003.tar").unlink()
    assert len(open_storage(root, "train").labels) == 9
    assert len(scanned) == 7
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert len(open_storage(root, "train").labels) == 9


@pytest.mark.parametrize("length", [0, 100])
def test_a_damaged_index_in_the_cache_is_made_again(
    folders: Path, tmp_path: Path, cache: Path, length: int
) -> None:
    root = tmp_path / "other"
    foreign_shards(folders, root)
    expected = open_storage(root, "train").labels.tolist()
    (kept,) = cache.rglob("*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:length])
    assert open_storage(root, "train").labels.tolist() == expected
    assert len(kept.read_bytes()) == len(whole)


def test_labels_without_names_are_counted(folders: Path, tmp_path: Path) -> None:
    lists(folders, tmp_path / "other")
    (tmp_path / "other" / "classes.txt").unlink()
    assert open_storage(tmp_path / "other", "train").classes == ("class_0", "class_1")
    storage = open_storage(tmp_path / "other", "val", ("a", "b", "c"))
    assert storage.classes == ("a", "b", "c")


def test_names_put_labels_into_the_order_of_the_training(folders: Path, tmp_path: Path) -> None:
    lists(folders, tmp_path / "other")
    storage = open_storage(tmp_path / "other", "val", ("zebra", "bee", "ant"))
    assert storage.labels.tolist() == [2, 2, 0, 0]


def replace_line(root: Path, number: int, line: str) -> None:
    path = root / "train_list.txt"
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/ant/3.jpg", r"train_list.txt line 2: expected a path and a label from 0.*ant/3"),
        ("train/ant/3.jpg one", r"line 2: expected a path and a label"),
        ("train/ant/3.jpg -1", r"line 2: expected a path and a label"),
        ("train/ant/3.jpg 1.0", r"line 2: expected a path and a label"),
        ("0", r"line 2: expected a path and a label"),
        ("train/ant/3.jpg 2", r"line 2: the label 2 is out of range, there are 2 classes, 0 to 1"),
    ],
)
def test_a_wrong_line_is_named(folders: Path, tmp_path: Path, line: str, message: str) -> None:
    lists(folders, tmp_path / "other")
    replace_line(tmp_path / "other", 2, line)
    with pytest.raises(ZigguratError, match=message):
        open_storage(tmp_path / "other", "train")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("12345678", "has the label 12345678, but there may be 1000000 classes without a name"),
        ("9" * 20, "line 2: the label 9*... has 20 digits, expected at most 18"),
        ("9" * 5000, "line 2: the label 9*... has 5000 digits"),
    ],
)
def test_a_label_too_large(folders: Path, tmp_path: Path, label: str, message: str) -> None:
    lists(folders, tmp_path / "other")
    (tmp_path / "other" / "classes.txt").unlink()
    replace_line(tmp_path / "other", 2, f"train/ant/3.jpg {label}")
    with pytest.raises(ZigguratError, match=message):
        open_storage(tmp_path / "other", "train")


def test_class_names_with_a_byte_order_mark(folders: Path, tmp_path: Path) -> None:
    lists(folders, tmp_path / "other")
    names = tmp_path / "other" / "classes.txt"
    names.write_text("ant\nzebra\n", encoding="utf-8-sig")
    assert open_storage(tmp_path / "other", "train").classes == ("ant", "zebra")


def test_a_file_of_a_list_that_is_missing(folders: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    lists(folders, root)
    replace_line(root, 2, "train/ant/gone.jpg 0")
    item = open_images(root, "train", TRANSFORM, train=False)[1]
    assert isinstance(item, Unreadable)
    assert item.skipped[0].reason == "there is no such file"
    faults = check_dataset(root).faults
    assert [(fault.file, fault.reason) for fault in faults] == [
        (str(root / "train/ant/gone.jpg"), "train: there is no such file")
    ]
    replace_line(root, 1, "train/ant/gone.jpg 0")
    with pytest.raises(ZigguratError, match=r"first image of .*train_list.txt, 'train/ant/gone"):
        open_storage(root, "train")


def test_an_empty_list(folders: Path, tmp_path: Path) -> None:
    lists(folders, tmp_path / "other")
    (tmp_path / "other" / "train_list.txt").write_text("\n\n")
    with pytest.raises(ZigguratError, match=r"the list .*train_list.txt is empty"):
        open_storage(tmp_path / "other", "train")


def test_class_names_that_do_not_fit(folders: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    lists(folders, root)
    with pytest.raises(ZigguratError, match=r"class 'zebra', none of the 2 known.*'zebras'"):
        open_storage(root, "val", ("ant", "zebras"))
    (root / "classes.txt").write_text("ant\n\nzebra\n")
    with pytest.raises(ZigguratError, match="classes.txt has an empty line"):
        open_storage(root, "val")
    (root / "classes.txt").write_text("ant\nant\n")
    with pytest.raises(ZigguratError, match="'ant' comes twice"):
        open_storage(root, "val", ("ant", "zebra"))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("size", [0, 100, 9000])
def test_a_truncated_lmdb(folders: Path, tmp_path: Path, size: int) -> None:
    pack(folders, tmp_path / "out", "lmdb", shard_bytes=1)
    cut(tmp_path / "out" / "train" / "data.mdb", size)
    with pytest.raises(
        ZigguratError, match=r"cannot open the LMDB .*|data.mdb is cut short: it has"
    ):
        open_storage(tmp_path / "out", "train")


def test_an_lmdb_without_labels_or_entries(folders: Path, tmp_path: Path) -> None:
    official_lmdb(folders, tmp_path / "other")
    listed = tmp_path / "other" / "meta" / "train.txt"
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join([lines[0], "n0/gone.JPEG 0", *lines[2:]]))
    item = open_images(tmp_path / "other", "train", TRANSFORM, train=False)[1]
    assert isinstance(item, Unreadable) and item.skipped[0].reason == "the LMDB has no such entry"
    listed.write_text("n0/gone.JPEG 0\n")
    with pytest.raises(ZigguratError, match=r"has no entry 'gone.JPEG', the first image of"):
        open_storage(tmp_path / "other", "train")
    listed.unlink()
    with pytest.raises(ZigguratError, match=r"its labels are nowhere; add .*meta/train.txt"):
        open_storage(tmp_path / "other", "train")


def write_tar(path: Path, files: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["0.jpg", "0.cls", "1.jpg"],
            "t.tar: the sample '1' has an image but no label; expected 1.cls",
        ),
        (["0.jpg", "0.cls", "0.jpg"], "t.tar: the key '0' is a duplicate, it has two images"),
        (["0.jpg", "0.png", "0.cls"], "t.tar: the key '0' is a duplicate, it has two images"),
        (
            ["0.jpg", "0.cls", "0.cls"],
            "the key '0' is a duplicate, it has the file '0.cl",
        ),
        (["0.cls", "1.txt"], "there are no images in the 1 shards beside .*t.tar"),
        ([], "there are no images in the 1 shards beside .*t.tar"),
    ],
)
def test_wrong_samples_are_named(tmp_path: Path, files: list[str], message: str) -> None:
    content = [(name, b"0" if name.endswith("cls") else jpeg()) for name in files]
    write_tar(tmp_path / "train" / "t.tar", content)
    with pytest.raises(ZigguratError, match=message):
        open_storage(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("0.cls", b"cat", "t.tar: 0.cls has the label 'cat', expected a number from 0"),
        ("0.cls", b"-1", "has the label -1"),
        ("0.cls", b"true", "has the label True"),
        ("0.json", b'{"label": "cat"}', "t.tar: 0.json has the label 'cat'"),
        ("0.json", b"[1]", "has an image but no label"),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    write_tar(tmp_path / "train" / "t.tar", [("0.jpg", jpeg()), (name, data)])
    with pytest.raises(ZigguratError, match=message):
        open_storage(tmp_path, "train")


def test_a_label_without_a_class(tmp_path: Path) -> None:
    write_tar(tmp_path / "train" / "t.tar", [("0.jpg", jpeg()), ("0.cls", b"7")])
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(ZigguratError, match="has the label 7, but there are 2 classes, 0 to 1"):
        open_storage(tmp_path, "train")


@pytest.mark.parametrize("size", [0, 300, 700, 2600])
def test_a_truncated_foreign_shard(tmp_path: Path, size: int) -> None:
    path = tmp_path / "train" / "t.tar"
    write_tar(path, [("0.cls", b"0"), ("0.jpg", jpeg() + bytes(2000))])
    cut(path, size)
    with pytest.raises(ZigguratError, match=r"t.tar is (damaged, cut short|cut short)|have no im"):
        open_storage(tmp_path, "train")


def _cut_shard(split: Path) -> None:
    cut(split / "train-000001.tar", 2000)


def _no_shard(split: Path) -> None:
    (split / "train-000001.tar").unlink()


def _other_shard(split: Path) -> None:
    shutil.copy(split / "train-000001.tar", split / "train-000009.tar")


def _cut_index(split: Path) -> None:
    cut(split / "index.npz", 200)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut_shard, r"the shard .*train-000001.tar has 2000 bytes, expected \d+"),
        (_no_shard, r"the shard .*train-000001.tar is missing"),
        (_other_shard, r"train-000009.tar is not in the index"),
        (_cut_index, r"the index .*index.npz is damaged or not from `ziggurat data pack`"),
    ],
)
def test_spoiled_packed_shards(
    folders: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    pack(folders, tmp_path / "out", "shards", shard_bytes=4000)
    spoil(tmp_path / "out" / "train")
    with pytest.raises(ZigguratError, match=message):
        open_storage(tmp_path / "out", "train")


def test_a_shard_that_vanishes_in_the_run(folders: Path, tmp_path: Path) -> None:
    pack(folders, tmp_path / "out", "shards", shard_bytes=4000)
    dataset = open_images(tmp_path / "out", "train", TRANSFORM, train=False)
    _cut_shard(tmp_path / "out" / "train")
    _no = tmp_path / "out" / "train" / "train-000000.tar"
    _no.unlink()
    reasons = {
        item.skipped[0].reason
        for item in map(dataset.__getitem__, range(len(dataset)))
        if isinstance(item, Unreadable)
    }
    assert reasons == {"its shard is cut short", "No such file or directory"}


def test_packing_keeps_bytes_and_says_how_far_it_is(folders: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    (tmp_path / "out.partial" / "train").mkdir(parents=True)  # of an attempt that was broken off
    done = pack(
        folders,
        tmp_path / "out",
        "lmdb",
        shard_bytes=1,
        on_progress=lambda *words: told.append(words),
    )
    assert [(split.name, split.num_images) for split in done] == [("train", 10), ("val", 4)]
    assert told[9] == ("pack train", 10, 10) and told[19] == ("verify train", 10, 10)
    assert not (tmp_path / "out.partial").exists()
    again = tmp_path / "again"
    pack(tmp_path / "out", again, "shards", shard_bytes=10**9)  # from one packed form to the other
    for split, _ in SPLITS:
        one, other = open_storage(folders, split), open_storage(again, split)
        assert [other.read(i) for i in range(len(one.labels))] == [
            one.read(i) for i in range(len(one.labels))
        ]
        assert [other.names[i] for i in range(len(one.labels))] == [
            one.names[i] for i in range(len(one.labels))
        ]


def test_a_split_of_another_name_is_not_left_out_of_a_pack(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "val", folders / "holdout")
    with pytest.raises(ZigguratError, match="class folders in holdout, which would not be packed"):
        pack(folders, tmp_path / "out", "lmdb", shard_bytes=1)
    write_lists(folders, folders, "{}_list.txt")  # then the folders are no splits
    assert len(pack(folders, tmp_path / "out", "lmdb", shard_bytes=1)) == 2


def test_a_class_whose_name_is_no_text_is_said_at_once(folders: Path, tmp_path: Path) -> None:
    for split, _ in SPLITS:
        (folders / split / "ant").rename(folders / split / os.fsdecode(b"caf\xe9"))
    with pytest.raises(ZigguratError, match="the class 'caf.*' has a name that is no UTF-8"):
        pack(folders, tmp_path / "out", "shards", shard_bytes=4000)
    assert not any((tmp_path / "out.partial/train").iterdir())


@pytest.mark.parametrize("kind", ["lmdb", "shards"])
def test_what_cannot_be_packed(folders: Path, tmp_path: Path, kind: PackFormat) -> None:
    out = tmp_path / "out"
    with pytest.raises(ZigguratError, match="nothing to pack in .*empty"):
        (tmp_path / "empty").mkdir()
        pack(tmp_path / "empty", out, kind, shard_bytes=1)
    with pytest.raises(ZigguratError, match="absent does not exist"):
        pack(tmp_path / "absent", out, kind, shard_bytes=1)
    with pytest.raises(ZigguratError, match="at least 1 byte, got 0"):
        pack(folders, out, kind, shard_bytes=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ZigguratError, match=r"cannot write .*file/out.partial"):
        pack(folders, tmp_path / "file" / "out", kind, shard_bytes=1)
    out.mkdir()
    with pytest.raises(ZigguratError, match="out exists already and is not overwritten"):
        pack(folders, out, kind, shard_bytes=1)
    out.rmdir()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.tex").write_text("")
    with pytest.raises(ZigguratError, match=r"out.partial is in the way, and 'thesis.tex' in it"):
        pack(folders, out, kind, shard_bytes=1)
    shutil.rmtree(tmp_path / "out.partial")
    write_lists(folders, folders, "{}_list.txt")
    (folders / "train" / "ant" / "4.jpg").unlink()
    with pytest.raises(ZigguratError, match="ant/4.jpg cannot be packed: there is no such file"):
        pack(folders, out, kind, shard_bytes=1)
    assert not out.exists()


def test_a_full_disk_is_said(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pack_shards, "_add", full)
        with pytest.raises(ZigguratError, match="the disk is full, packing stopped; .*out.partial"):
            pack(folders, tmp_path / "out", "shards", shard_bytes=1)
    assert not (tmp_path / "out").exists()
    pack(folders, tmp_path / "out", "shards", shard_bytes=1)
    assert len(list((tmp_path / "out" / "train").glob("*.tar"))) == 10


def test_what_is_read_back_is_compared(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pack_shards.write_shards

    def spoil(folder: Path, *words: object, **options: object) -> None:
        write(folder, *words, **options)  # type: ignore[arg-type]
        path = folder / "train-000000.tar"
        data = bytearray(path.read_bytes())
        data[700] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr("ziggurat.data.pack.write_shards", spoil)
    with pytest.raises(ZigguratError, match="is not what was written"):
        pack(folders, tmp_path / "out", "shards", shard_bytes=10**9)


def test_an_lmdb_outgrows_its_first_size(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ziggurat.data.pack_lmdb._MAP_BYTES", 1 << 14)
    monkeypatch.setattr("ziggurat.data.pack_lmdb._BATCH_BYTES", 3000)
    pack(folders, tmp_path / "out", "lmdb", shard_bytes=1)
    stored: Storage = open_storage(tmp_path / "out", "train")
    assert [stored.read(i) for i in range(10)] == [
        open_storage(folders, "train").read(i) for i in range(10)
    ]
