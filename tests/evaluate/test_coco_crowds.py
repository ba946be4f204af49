"""COCO's average precision from its files to the table, beside pycocotools on COCO's own file."""

import contextlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from verl_socio.data import Choice, load_samples
from verl_socio.evaluate.protocols import PROTOCOLS, check_samples
from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.evaluate.scores import summarise

SIZE_WH = (64, 48)
IMAGES, CATEGORIES = range(1, 9), (1, 2, 3)


def random_boxes(draw, count):
    """Boxes x, y, width, height."""
    corner = draw.uniform(0, 40, (count, 2))
    return np.concatenate([corner, draw.uniform(4, 24, (count, 2)).clip(max=np.array(SIZE_WH) - corner)], axis=1)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """A small COCO: its folder, and its annotations, about a third of them crowds."""
    draw = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("coco")
    annotations = []
    for image in IMAGES:
        for category in CATEGORIES:
            for box in random_boxes(draw, int(draw.integers(0, 5))):
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": box.tolist(),
                        "area": float(box[2:].prod()), "iscrowd": int(draw.random() < 0.4),
                    }
                )  # fmt: skip
    images = [{"id": image, "width": SIZE_WH[0], "height": SIZE_WH[1]} for image in IMAGES]
    categories = [{"id": category, "name": str(category)} for category in CATEGORIES]
    whole = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "instances_val2017.json").write_text(json.dumps(whole))
    _write_table(folder / "table", annotations)
    return folder, annotations


def _write_table(folder, annotations):
    """The same as the released table: a row for each image and category, all of its boxes alike."""
    picture = io.BytesIO()
    Image.new("RGB", SIZE_WH).save(picture, format="PNG")
    rows = []
    for image in IMAGES:
        for category in CATEGORIES:
            mine = [each for each in annotations if (each["image_id"], each["category_id"]) == (image, category)]
            boxes = [[x, y, x + width, y + height] for x, y, width, height in (each["bbox"] for each in mine)]
            if mine:
                ids = {"image_id": image, "ann_id": mine[0]["id"], "cat_id": category}
                sizes = {"img_width": SIZE_WH[0], "img_height": SIZE_WH[1]}
                content = {"bytes": picture.getvalue(), "path": None}
                rows.append({"image": content, "text": f"Things of kind {category}.", "bbox": boxes, **ids, **sizes})
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "test-00000-of-00001.parquet")


def answered(sample, number, annotations):
    """What a model might answer: near the annotations, crowds among them, and something else."""
    draw = np.random.default_rng(number)
    truth = sample.truth
    pair = (truth.image_id, truth.category_id)
    boxes = [each["bbox"] for each in annotations if (each["image_id"], each["category_id"]) == pair]
    near = np.array(boxes) + draw.normal(0, 1.5, (len(boxes), 4))
    return np.concatenate([near, random_boxes(draw, 2)]).clip(min=0.5)


def row_of(sample, number, boxes_xywh):
    boxes = [[x, y, x + width, y + height] for x, y, width, height in boxes_xywh.tolist()]
    prompts = tuple({"box_xyxy": box, "points_xy": [], "labels": []} for box in boxes)
    stage = StageRow("answer", "", "", "ok", "", True, prompts, (), None, None, None, 0.0, 0.0, 0.0, 0.0)
    made = SampleRow(
        sample.id, "q", None, SIZE_WH, None, None, None, None, (stage,), 0.0, 0.0, number, sample.truth
    )  # fmt: skip
    return SampleRow.from_line(made.to_line())


def of_pycocotools(file, samples, answers):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = []
    for sample, boxes in zip(samples, answers, strict=True):
        for box in boxes.tolist():
            score = box[2] * box[3] / (SIZE_WH[0] * SIZE_WH[1])
            ids = {"image_id": sample.truth.image_id, "category_id": sample.truth.category_id}
            results.append({**ids, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(file))
        evaluation = COCOeval(known, known.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("ap", "ap50", "ap75"), evaluation.stats[:3], strict=True))


def test_with_coco_s_own_file_the_figures_are_those_of_pycocotools_on_it(coco):
    folder, annotations = coco
    file = folder / "instances_val2017.json"
    found = {}
    for name, choice in (("table", Choice()), ("file", Choice(annotations=str(file)))):
        samples = load_samples(str(folder / "table"), "test", choice=choice)
        check_samples(PROTOCOLS["detection"], samples)
        answers = [answered(sample, number, annotations) for number, sample in enumerate(samples)]
        rows = [row_of(*each) for each in zip(samples, range(len(samples)), answers, strict=True)]
        [line] = summarise(rows, ["answer"], PROTOCOLS["detection"]).lines
        found[name] = line.figures
    expected = of_pycocotools(file, samples, answers)
    assert sum(each["iscrowd"] for each in annotations) > 5
    assert 0.1 < expected["ap"] < 0.9
    assert found["file"] == pytest.approx(expected, abs=1e-12)
    assert abs(found["table"]["ap"] - expected["ap"]) > 0.01, "crowds must tell, or the line above shows nothing"
