import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verl_socio.answer import Answer, Prompt, Status
from verl_socio.episode import Episode, Reply, Scene, StageResult, Turn
from verl_socio.evaluate.vllm_host import Usage
from verl_socio.infer.requests import Request, gather
from verl_socio.infer.router import COUNTING, DETECTION, QUESTION, SEGMENTATION, Routed
from verl_socio.infer.writer import Writer
from verl_socio.masks import Masks
from verl_socio.train.settings import shipped_recipe


@pytest.fixture
def request_of_odd_name(tmp_path: Path) -> Request:
    """An image whose file's name is no UTF-8."""
    path = os.path.join(tmp_path, os.fsdecode(b"caf\xe9.png"))
    Image.new("RGB", (8, 6)).save(path)
    return gather(path, "School", None)[0]


def test_an_image_whose_name_is_no_utf8_keeps_its_answer(request_of_odd_name: Request, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "out", shipped_recipe("one_stage"))
    writer.folder.mkdir()
    [file] = writer.write_words(
        request_of_odd_name, Routed(QUESTION, "rules"), Reply("a school \ud83d", Usage(3, True))
    )
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["image"] == request_of_odd_name.sample.satellite.uri
    assert (found["answer"], found["cut_off"]) == ("a school \ud83d", True)
    assert [path for path in writer.folder.iterdir()] == [file]


SIZE_WH = (40, 30)
BOXES_XYXY = ((2.0, 3.0, 12.0, 13.0), (20.0, 5.0, 30.0, 25.0))
ANSWERS = {
    Status.OK: Answer(Status.OK, tuple(Prompt(box) for box in BOXES_XYXY), thinking="two of them"),
    Status.EMPTY: Answer(Status.EMPTY, thinking="none of them"),
    Status.UNPARSEABLE: Answer(Status.UNPARSEABLE, reason="no answer tag"),
}


def episode_of(request: Request, answers: list[Answer], cut_off: list[bool]) -> Episode:
    """An episode of these answers, the masks being the boxes."""
    images = {"satellite": Image.new("RGB", SIZE_WH), "map": Image.new("RGB", SIZE_WH)}
    stages = []
    for index, (answer, cut) in enumerate(zip(answers, cut_off, strict=True)):
        masks_nhw = np.zeros((len(answer.prompts), SIZE_WH[1], SIZE_WH[0]), dtype=bool)
        for mask_hw, prompt in zip(masks_nhw, answer.prompts, strict=True):
            x1, y1, x2, y2 = map(int, prompt.box_xyxy)
            mask_hw[y1:y2, x1:x2] = True
        masks = Masks(masks_nhw, np.ones(len(masks_nhw)))
        reply = Reply("words", Usage(5, cut))
        stages.append(StageResult(Turn(index, (), "?"), reply, answer, masks.predicted_iou, masks.union(), None))
    return Episode(Scene(request.sample, images, None), tuple(stages))


@pytest.mark.parametrize("status", ANSWERS)
@pytest.mark.parametrize("task", [DETECTION, SEGMENTATION, COUNTING])
def test_what_was_found_is_kept_and_what_could_not_be_read_is_not_nothing(
    tmp_path: Path, task: str, status: Status
) -> None:
    Image.new("RGB", SIZE_WH).save(tmp_path / "a.png")
    [request] = gather(str(tmp_path / "a.png"), "School", None)
    writer = Writer(tmp_path / "out", shipped_recipe("socioreasoner"))
    writer.folder.mkdir()
    answers = [ANSWERS[Status.OK], ANSWERS[status]]
    files = writer.write(request, Routed(task, "rules"), episode_of(request, answers, [True, False]))
    assert sorted(files) == sorted(writer.folder.iterdir())
    has_mask = task == SEGMENTATION and status is not Status.UNPARSEABLE
    assert [file.name for file in files] == ["a_boxes.json", "a_picture.png", *(["a_mask.png"] if has_mask else [])]
    found = json.loads((writer.folder / "a_boxes.json").read_text(encoding="utf-8"))
    assert (found["status"], found["reason"], found["cut_off"]) == (status, ANSWERS[status].reason, [True, False])
    assert found["thinking"] == ["two of them", ANSWERS[status].thinking]
    assert [each["box_xyxy"] for each in found["objects"]] == [list(each.box_xyxy) for each in ANSWERS[status].prompts]
    counts = {Status.OK: 2, Status.EMPTY: 0, Status.UNPARSEABLE: None}
    assert found.get("count", "not asked") == (counts[status] if task == COUNTING else "not asked")
    if has_mask:
        with Image.open(writer.folder / "a_mask.png") as image:
            assert image.size == SIZE_WH and image.mode == "L"
            mask_hw = np.asarray(image)
        expected_hw = np.zeros(mask_hw.shape, dtype=np.uint8)
        if status is Status.OK:
            expected_hw[3:13, 2:12] = expected_hw[5:25, 20:30] = 255
        assert np.array_equal(mask_hw, expected_hw)
