"""Rows of every kind, added up by each protocol and by hand."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.data import Truth
from verl_socio.evaluate.intervals import intervals
from verl_socio.evaluate.protocols import PROTOCOLS, check_samples, protocol_of
from verl_socio.evaluate.protocols.terms import AFTER, TERMS
from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.evaluate.scores import summarise
from verl_socio.metrics import MaskScore

HALF, WHOLE, NOTHING = MaskScore(0.5, 50, 100, 1, 1, 1), MaskScore(1.0, 50, 50, 1, 1, 1), MaskScore(1.0, 0, 0, 0, 0, 0)
BOX = (0.0, 0.0, 10.0, 10.0)


def row(number, *, score=None, boxes=(), status="ok", failed=False, area=None, truth=None, level=None):
    prompts = tuple({"box_xyxy": None if box is None else list(box), "points_xy": [], "labels": []} for box in boxes)
    stage = StageRow("answer", "", "", status, "", True, prompts, (), score, None, None, 0.0, 0.0, 0.0, 0.0)
    instances = None if area is None else int(area > 10)
    failure, stages = ("broken", ()) if failed else (None, (stage,))
    return SampleRow(
        f"s{number}", "q", level, (20, 10), area, instances, None, failure, stages, 0.0, 0.0, number, truth or Truth()
    )


def figures(name, rows):
    [line] = summarise(iter(rows), ["answer"], PROTOCOLS[name]).lines
    assert line.failures == sum(row.failure is not None for row in rows)
    return {column.key: line.figures[column.key] for column in PROTOCOLS[name].columns}


def test_masks_by_level_have_a_baseline_and_f1():
    rows = [row(0, score=HALF, area=50, level="class"), row(1, score=WHOLE, area=50, level="class")]
    rows = [dataclasses.replace(each, center_box=HALF) for each in rows]
    summary = summarise(rows, ["answer"])
    assert [(line.level, line.name) for line in summary.lines] == [
        (level, name) for level in ("all", "class") for name in ("centre box", "answer")
    ]
    assert summary.lines[1].figures == {"ciou": 100 / 150, "giou": 0.75, "f1": 1.0}
    assert summary.lines[0].figures == {"ciou": 0.5, "giou": 0.5, "f1": 1.0}


def test_no_target_counts_answers_that_say_so_and_no_silence():
    rows = [
        row(0, score=HALF, area=50),
        row(1, score=NOTHING, area=0, status="empty"),
        row(2, score=MaskScore(0.0, 0, 7, 0, 0, 0), area=0),
        row(3, score=MaskScore(0.0, 0, 0, 0, 0, 0), area=0, status="unparseable"),
        row(4, failed=True, area=0),
        row(5, failed=True, area=30),
    ]
    assert figures("no_target", rows) == {"ciou": 50 / 137, "giou": 1.5 / 6, "no_target": 0.25}
    assert summarise(rows, ["answer"], PROTOCOLS["no_target"]).without_target == 4
    assert figures("no_target", rows[:1])["no_target"] is None


def test_precision_counts_images_at_or_above():
    rows = [row(0, score=HALF, area=50), row(1, score=WHOLE, area=50), row(2, failed=True, area=50)]
    found = figures("precision", rows)
    assert found == pytest.approx(
        {"ciou": 0.5, "giou": 0.5, "p50": 2 / 3, "p60": 1 / 3, "p70": 1 / 3, "p80": 1 / 3, "p90": 1 / 3}
    )


def test_box_accuracy_is_of_the_samples_that_have_a_box():
    known, none = Truth(boxes_xyxy=(BOX,)), Truth(boxes_xyxy=())
    rows = [
        row(0, score=HALF, area=50, boxes=[(50, 50, 60, 60), (0, 0, 10, 9)], truth=known),
        row(1, score=HALF, area=50, boxes=[(0, 0, 10, 5), None], truth=known),
        row(2, score=HALF, area=50, boxes=[BOX]),
        row(3, failed=True, area=50, truth=known),
        row(4, score=NOTHING, area=0, status="empty", truth=none),
        row(5, score=MaskScore(0.0, 0, 0, 0, 0, 0), area=0, status="unparseable", truth=none),
    ]
    assert figures("boxes", rows)["box_accuracy"] == 2 / 5
    assert figures("boxes", rows[2:3])["box_accuracy"] is None


def test_detection_knows_no_masks_and_a_failed_sample_finds_nothing():
    def truth(image):
        return Truth(boxes_xyxy=(BOX,), image_id=image, category_id=1)

    rows = [row(0, boxes=[BOX], truth=truth(1)), row(1, failed=True, truth=truth(2))]
    # Half of the objects are found, all above the precision of 1: COCO's 101 recalls 0 .. 1, those up to 0.5.
    assert figures("detection", rows) == pytest.approx({"ap": 51 / 101, "ap50": 51 / 101, "ap75": 51 / 101})
    assert figures("detection", rows[1:]) == {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}


def test_counting_counts_items_and_silence_counts_nothing():
    rows = [
        row(0, boxes=[BOX, BOX], truth=Truth(count=2)),
        row(1, boxes=[BOX, None], truth=Truth(count=5)),
        row(2, status="empty", truth=Truth(count=0)),
        row(3, status="unparseable", truth=Truth(count=0)),
        row(4, failed=True, truth=Truth(count=1)),
    ]
    assert figures("counting", rows) == {"accuracy": 2 / 5, "mae": 4 / 5, "rmse": math.sqrt(10 / 5)}


# --- the same figures from what each sample gives to them ---

boxes = st.lists(st.sampled_from([BOX, (0.0, 0.0, 10.0, 5.0), (3.0, 3.0, 30.0, 30.0), None]), max_size=3)


@st.composite
def sets(draw):
    rows = []
    for number in range(draw(st.integers(1, 8))):
        has_target = draw(st.booleans())
        area = draw(st.integers(1, 100)) if has_target else 0
        status = draw(st.sampled_from(["ok", "empty", "unparseable"]))
        inside = draw(st.integers(0, area))
        union = area + draw(st.integers(0, 50))
        iou = inside / union if union else float(status != "unparseable")
        score = MaskScore(iou, inside, union, min(inside, 1), 1, int(area > 10))
        truth = Truth(
            boxes_xyxy=draw(st.none() | st.just(()) | st.just((BOX,))), count=draw(st.integers(0, 4)), image_id=number
        )
        failed, named = draw(st.booleans()), draw(boxes)
        rows.append(row(number, score=score, boxes=named, status=status, failed=failed, area=area, truth=truth))
    return rows


@settings(deadline=None)
@given(rows=sets(), name=st.sampled_from([name for name in PROTOCOLS if name != "detection"]))
def test_intervals_are_around_the_figures_of_the_table(rows, name):
    protocol = PROTOCOLS[name]
    found = figures(name, rows)
    for key, value in found.items():
        terms = [TERMS[key](each, each.stages[0] if each.stages else None) for each in rows]
        above, below = (sum(side) for side in zip(*terms, strict=True))
        if below:
            assert AFTER.get(key, float)(above / below) == pytest.approx(value, abs=1e-9)
        else:
            assert value in (None, 0.0, 1.0)
    of_line = intervals(rows, ["answer"], protocol)["all", "answer"]
    assert {key for key in found if found[key] is not None} == set(of_line) - {"unparsed"}
    for key in found.keys() & of_line.keys():
        # But for the last digits of sums in another order.
        assert of_line[key].low - 1e-9 <= found[key] <= of_line[key].high + 1e-9


def test_an_interval_is_of_the_samples_that_tell_something():
    rows = [row(number, score=HALF, area=50) for number in range(9)] + [row(9, score=NOTHING, area=0, status="empty")]
    of_line = intervals(rows, ["answer"], PROTOCOLS["no_target"])["all", "answer"]
    assert (of_line["no_target"].low, of_line["no_target"].high) == (1.0, 1.0)
    silent = [row(0, score=MaskScore(0.0, 0, 0, 0, 0, 0), area=0, status="unparseable")]
    of_line = intervals(silent, ["answer"], PROTOCOLS["no_target"])["all", "answer"]
    assert all((of_line[key].low, of_line[key].high) == (0.0, 0.0) for key in ("ciou", "giou", "no_target"))


def test_average_precision_has_no_interval():
    rows = [row(0, boxes=[BOX], truth=Truth(boxes_xyxy=(BOX,), image_id=1, category_id=1))]
    assert set(intervals(rows, ["answer"], PROTOCOLS["detection"])["all", "answer"]) == {"unparsed"}


# --- which protocol ---


@pytest.mark.parametrize(
    ("data_format", "name"),
    [
        ("raw", "levels"), ("hub", "levels"), ("earthreason", "no_target"), ("rrsisd", "precision"),
        ("refsegrs", "precision"), ("risbench", "precision"), ("referring", "boxes"), ("detection", "detection"),
        ("counting", "counting"),
    ],
)  # fmt: skip
def test_each_format_is_measured_as_its_authors_do(data_format, name):
    assert protocol_of("auto", data_format).name == name
    assert protocol_of("precision", data_format).name == "precision"


def test_an_unknown_protocol_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"protocol = 'ap': must be auto or one of levels, .*counting.*Fix:"):
        protocol_of("ap", "raw")


@pytest.mark.parametrize(
    ("data_format", "name"), [("counting", "levels"), ("referring", "counting"), ("earthreason", "detection")]
)
def test_a_protocol_that_the_samples_cannot_answer_is_told(published_set, data_format, name):
    from verl_socio.data import load_samples

    samples = load_samples(str(published_set(data_format)), "test")
    with pytest.raises(ValueError, match=rf"protocol = '{name}': needs the .* of every sample, but .* has none.*Fix:"):
        check_samples(PROTOCOLS[name], samples)
    check_samples(protocol_of("auto", data_format), samples)


def test_a_set_without_any_object_has_no_average_precision(published_set):
    from verl_socio.data import load_samples

    samples = load_samples(str(published_set("detection")), "test")
    bare = [dataclasses.replace(each, truth=dataclasses.replace(each.truth, boxes_xyxy=())) for each in samples]
    with pytest.raises(ValueError, match=r"needs an object in one of the 2 samples, but none has a box. Fix: check"):
        check_samples(PROTOCOLS["detection"], bare)
    check_samples(PROTOCOLS["detection"], [bare[0], samples[1]])


def test_rows_of_a_set_without_masks_come_back_from_their_lines():
    made = row(0, boxes=[BOX], truth=Truth(boxes_xyxy=(BOX,), count=0, image_id=3, size_wh=(20, 10)))
    assert SampleRow.from_line(made.to_line()) == made
    assert np.isfinite(made.truth.boxes_xyxy).all()
