import json
from collections.abc import Callable

import pytest
from PIL import Image

from verl_socio.study.curves import Picture, draw, pictures
from verl_socio.study.figures import Figures
from verl_socio.study.plan import Study
from verl_socio.study.records import METRICS
from verl_socio.study.steps import record_folder

LAST = {"start": 0, "other": 4, "trained": 4}


@pytest.fixture
def metrics(study: Study) -> Callable[[int, list[tuple[int, dict]]], None]:
    """Writes the kept metrics of a training's seed."""

    def write(seed: int, entries: list[tuple[int, dict]]) -> None:
        folder = record_folder(study, Figures(study, LAST).runs["trained", seed])
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in entries]
        (folder / METRICS).write_text("".join(lines))

    return write


def by_file(study: Study) -> dict[str, Picture]:
    return {picture.file: picture for picture in pictures(Figures(study, LAST))}


def along(study: Study) -> object:
    return by_file(study)["out_of_distribution.png"].panels["test"]["trained"]


def test_without_records_there_is_nothing_to_draw(study: Study) -> None:
    assert pictures(Figures(study, LAST)) == []


def test_each_curve_has_its_stages_steps_and_seeds(study: Study, metrics: Callable[..., None]) -> None:
    step = {
        "localise/reward/box_count": 0.5, "localise/reward": 3.0, "refine/reward/mask_iou": 0.25,
        "localise/parse_failure": 0.0, "refine/parse_failure": 0.5, "response_length/mean": 40.0,
    }  # fmt: skip
    metrics(0, [(0, {"val/localise/giou": 0.1, "val/refine/giou": 0.2}), (1, step)])
    metrics(1, [(1, {**step, "response_length/mean": 60.0})])
    found = by_file(study)
    assert set(found) == {"reward_parts_trained.png", "val_giou.png", "answer_length.png", "parse_failures.png"}
    assert found["reward_parts_trained.png"].panels == {
        "localise": {"box_count": {1: [0.5, 0.5]}}, "refine": {"mask_iou": {1: [0.25, 0.25]}},
    }  # fmt: skip
    assert found["val_giou.png"].panels[""] == {"trained, localise": {0: [0.1]}, "trained, refine": {0: [0.2]}}
    assert found["answer_length.png"].panels[""] == {"trained": {1: [40.0, 60.0]}}
    assert found["parse_failures.png"].panels[""]["trained, refine"] == {1: [0.5, 0.5]}


def test_fine_tuning_has_its_losses(study: Study, metrics: Callable[..., None]) -> None:
    metrics(0, [(1, {"train/loss": 2.0}), (2, {"train/loss": 1.0, "val/loss": 1.5})])
    (picture,) = by_file(study).values()
    assert picture.panels == {"": {"trained, train": {1: [2.0], 2: [1.0]}, "trained, val": {2: [1.5]}}}


def test_the_way_out_of_distribution_begins_at_the_start(study: Study, keep: Callable[..., None]) -> None:
    keep("trained", 0, "test", {"localise": [0.5]})
    keep("trained", 1, "test", {"localise": [0.7]})
    assert along(study) == {4: [0.5, 0.7]}
    for seed in (0, 1):
        keep("trained", seed, "test", {"localise": [0.4]}, at=2)
    assert along(study) == {2: [0.4, 0.4], 4: [0.5, 0.7]}
    keep("start", 0, "test", {"localise": [0.3]})
    assert along(study) == {0: [0.3, 0.3], 2: [0.4, 0.4], 4: [0.5, 0.7]}


def test_a_seed_without_a_step_of_the_line_is_in_none_of_it(study: Study, keep: Callable[..., None]) -> None:
    keep("start", 0, "test", {"localise": [0.3]})
    keep("trained", 0, "test", {"localise": [0.5]})
    keep("trained", 1, "test", {"localise": [0.7]})
    keep("trained", 1, "test", {"localise": [0.4]}, at=2)
    assert along(study) == {0: [0.3], 2: [0.4], 4: [0.7]}


def test_where_no_seed_has_every_step_there_is_no_line(study: Study, keep: Callable[..., None]) -> None:
    keep("trained", 0, "test", {"localise": [0.5]})
    keep("trained", 1, "test", {"localise": [0.4]}, at=2)
    assert by_file(study) == {}


def test_a_training_under_way_is_not_in_the_lines_of_those_that_ended(
    study: Study, metrics: Callable[..., None]
) -> None:
    metrics(0, [(1, {"response_length/mean": 40.0}), (2, {"response_length/mean": 50.0})])
    metrics(1, [(1, {"response_length/mean": 60.0})])
    assert by_file(study)["answer_length.png"].panels[""] == {"trained": {1: [40.0], 2: [50.0]}}


def test_a_start_alone_is_no_curve(study: Study, keep: Callable[..., None]) -> None:
    keep("start", 0, "test", {"localise": [0.3]})
    assert by_file(study) == {}


def test_a_variant_has_the_same_colour_in_every_panel(study: Study) -> None:
    one, other = {0: [0.1], 1: [0.2]}, {0: [0.4], 1: [0.3]}
    picture = Picture("t", "p.png", {"both": {"one": one, "other": other}, "alone": {"other": other}}, "step", "y")
    image = Image.open(draw(picture, study.results / "curves")).convert("RGB")
    blue, orange = (31, 119, 180), (255, 127, 14)  # the first two of matplotlib's own
    # The panels meet somewhat right of the middle: the left one has the axis' words beside it.
    halves = ((0, image.width // 2), (image.width * 3 // 5, image.width))
    left, right = (
        {color for _, color in image.crop((start, 0, end, image.height)).getcolors(1 << 20)} for start, end in halves
    )
    assert {blue, orange} <= left
    assert orange in right
    assert blue not in right


def test_the_same_records_give_the_same_picture_and_others_another(study: Study) -> None:
    def bytes_of(value: float) -> bytes:
        picture = Picture("t", "p.png", {"a": {"x": {0: [value], 1: [0.5, 0.6]}}, "b": {"y": {0: [1.0]}}}, "step", "y")
        return draw(picture, study.results / "curves").read_bytes()

    assert bytes_of(0.1) == bytes_of(0.1)
    assert bytes_of(0.1) != bytes_of(0.2)
    with Image.open(study.results / "curves" / "p.png") as image:
        assert image.width > image.height, "two panels side by side"
