"""What several rooms' tests share: the embedded model, and a small data set in SocioSeg's raw layout."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded Qwen2.5-VL with random weights, as a Hugging Face folder; not to be written to."""
    from verl_socio.embedded.qwen2_5_vl import build

    return build(tmp_path_factory.mktemp("models") / "qwen2_5_vl")


@pytest.fixture(scope="session")
def tiny_chat(tiny_model: Path):
    from verl_socio.chat import ChatModel

    return ChatModel.load(tiny_model)


@pytest.fixture(scope="session")
def torchmetrics():
    """An independent implementation of what this project measures. It imports torchvision."""
    from verl_socio.torchvision_cpu import make_importable

    make_importable()
    import torchmetrics
    import torchmetrics.detection

    return torchmetrics


@pytest.fixture(scope="session")
def write_sample() -> Callable[..., Path]:
    """Writes one sample `<root>/<split>/<name>/` of noise with one rectangle a target, and gives its folder."""

    def write(
        root: Path,
        name: str,
        split: str = "train",
        size_wh: tuple[int, int] = (64, 48),
        boxes_xyxy: tuple[tuple[int, int, int, int], ...] = ((5, 10, 25, 30),),
        question: str = "Zoo",
    ) -> Path:
        folder = root / split / name
        folder.mkdir(parents=True)
        width, height = size_wh
        rng = np.random.default_rng([*name.encode(), *size_wh])
        for file in ("sat.png", "map.png"):
            Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / file)
        mask_hw = np.zeros((height, width), dtype=np.uint8)
        for left, top, right, bottom in boxes_xyxy:
            mask_hw[top:bottom, left:right] = 255
        Image.fromarray(mask_hw).save(folder / "mask.png")
        (folder / "question.json").write_text(json.dumps({"problem": question}), encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, write_sample: Callable[..., Path]) -> Path:
    """Eight training, two validation and two test samples of 64 x 48 px; not to be written to."""
    root = tmp_path_factory.mktemp("data") / "raw"
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        for index in range(count):
            write_sample(root, f"{split}_{index}", split)
    return root


# Published sets, each exactly as its authors released it: noise with one rectangle a sample, `rectangle(number)`.
SET_WH = (64, 48)


def rectangle(number: int) -> tuple[int, int, int, int]:
    return (5 + number, 10, 25 + number, 30)


def _mask(number: int) -> np.ndarray:
    left, top, right, bottom = rectangle(number)
    mask_hw = np.zeros((SET_WH[1], SET_WH[0]), dtype=bool)
    mask_hw[top:bottom, left:right] = True
    return mask_hw


def _noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (SET_WH[1], SET_WH[0], 3), dtype=np.uint8)


def _earthreason(root: Path) -> Path:
    """Three samples; the last asks for what is not there, and its label is empty."""
    for split in ("val", "test"):
        for part in ("images", "labels", "QAs"):
            (root / split / part).mkdir(parents=True)
        for number in range(3):
            name = f"{1000 + number}"
            Image.fromarray(_noise(number)).save(root / split / "images" / f"{name}.jpg")
            label = _mask(number).astype(np.uint8) * (1 if number == 0 else 255) * (number < 2)
            Image.fromarray(label).save(root / split / "labels" / f"{name}.png")
            asked = {"questions": [f"Question {number} {word}?" for word in ("a", "b", "c")]}
            asked["answer"] = [f"Answer {number}."] if number < 2 else []
            (root / split / "QAs" / f"{name}.json").write_text(json.dumps(asked))
    return root


def _rrsisd(root: Path) -> Path:
    """Four samples, the last in the split train; masks as a polygon, a list of RLE, an RLE of counts and of text."""
    import pickle

    from pycocotools import mask as library

    (root / "rrsisd").mkdir(parents=True)
    (root / "images" / "rrsisd" / "JPEGImages").mkdir(parents=True)
    images, annotations, refs = [], [], []
    for number in range(4):
        left, top, right, bottom = rectangle(number)
        text = library.encode(np.asfortranarray(_mask(number).astype(np.uint8)))
        text = {"size": text["size"], "counts": text["counts"].decode()}
        flat = _mask(number).ravel(order="F")
        edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
        counts = np.diff([0, *edges, flat.size]).tolist()
        forms = (
            [[left, top, right, top, right, bottom, left, bottom]],
            [text],
            {"size": [SET_WH[1], SET_WH[0]], "counts": counts},
            text,
        )
        name = f"{number + 1:05d}.jpg"
        Image.fromarray(_noise(number)).save(root / "images" / "rrsisd" / "JPEGImages" / name)
        images.append({"id": number, "file_name": name, "width": SET_WH[0], "height": SET_WH[1]})
        box = [left, top, right - left, bottom - top]
        annotations.append(
            {
                "id": 10 + number, "image_id": number, "category_id": 1, "segmentation": forms[number], "area": 400,
                "bbox": box, "iscrowd": 0,
            }
        )  # fmt: skip
        sentence = {"tokens": ["a", "ship"], "raw": f"A ship {number}", "sent_id": number, "sent": f"a ship {number}"}
        refs.append(
            {
                "ref_id": 100 + number, "ann_id": 10 + number, "image_id": number, "category_id": 1, "file_name": name,
                "split": "train" if number == 3 else "test", "sentences": [sentence], "sent_ids": [number],
            }
        )  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "ship"}]}
    (root / "rrsisd" / "instances.json").write_text(json.dumps(content))
    (root / "rrsisd" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return root


def _refsegrs(root: Path) -> Path:
    """Two samples; only the masks' first channel holds the target."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for number in range(2):
        Image.fromarray(_noise(number)).save(root / "images" / f"{number + 7}.tif")
        channels = np.stack([_mask(number), ~_mask(number), _mask(number)], axis=-1)
        Image.fromarray(channels.astype(np.uint8) * 255).save(root / "masks" / f"{number + 7}.tif")
    for split in ("train", "test"):
        (root / f"output_phrase_{split}.txt").write_text("7 vehicle in the parking area\n8 road marking\n")
    return root


def _risbench(root: Path) -> Path:
    (root / "img_rgb").mkdir(parents=True)
    (root / "mask").mkdir()
    lines = []
    for number in range(2):
        Image.fromarray(_noise(number)).save(root / "img_rgb" / f"P{number}.png")
        Image.fromarray(_mask(number).astype(np.uint8) * 255).save(root / "mask" / f"P{number}.png")
        lines.append(f"P{number}.png The large ship on the left number {number}.\n")
    (root / "output_phrase_test.txt").write_text("".join(lines))
    return root


def _table(root: Path, rows: list[dict[str, object]]) -> Path:
    """The columns that all tables share, and those of the rows."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    (root / "data").mkdir(parents=True)
    whole = []
    for number, row in enumerate(rows):
        written = io.BytesIO()
        Image.fromarray(_noise(number)).save(written, format="PNG")
        image = {"bytes": written.getvalue(), "path": None}
        ids = {"image_id": 40 + number, "ann_id": 70 + number, "img_height": SET_WH[1], "img_width": SET_WH[0]}
        whole.append({"image": image, "text": f'The "Cat" number {number}?', **ids, **row})
    pq.write_table(pa.Table.from_pylist(whole), root / "data" / "test-00000-of-00001.parquet")
    return root


def _referring(root: Path) -> Path:
    """Two samples with masks as nested lists of truth values, and boxes x1, y1, x2, y2."""
    rows = [{"mask": _mask(number).tolist(), "bbox": [float(at) for at in rectangle(number)]} for number in range(2)]
    return _table(root, rows)


def _detection(root: Path) -> Path:
    """Two images and categories of one and two boxes."""
    boxes = [[list(map(float, rectangle(0)))], [list(map(float, rectangle(each))) for each in (1, 30)]]
    return _table(root, [{"bbox": boxes[number], "cat_id": 3 + number} for number in range(2)])


def _counting(root: Path) -> Path:
    return _table(root, [{"count": number + 2} for number in range(2)])


_WRITERS = {
    "earthreason": _earthreason, "rrsisd": _rrsisd, "refsegrs": _refsegrs, "risbench": _risbench,
    "referring": _referring, "detection": _detection, "counting": _counting,
}  # fmt: skip


@pytest.fixture
def published_set(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a small set of a format as its authors released it, and gives its folder."""
    return lambda name: _WRITERS[name](tmp_path / name)


@pytest.fixture(scope="session")
def rectangle_of() -> Callable[[int], tuple[int, int, int, int]]:
    """The target of a published set's sample of that number."""
    return rectangle
