import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.box_metrics import Detections, average_precision, box_found

NONE = np.zeros((0, 4))


def boxes(*rows):
    return np.array(rows, dtype=float).reshape(-1, 4)


def entry(target, predicted, image=1, category=1, size_wh=(100, 100), crowd=NONE):
    return Detections(image, category, size_wh, target, predicted, crowd)


def random_boxes(draw, count):
    corner = draw.uniform(0, 70, (count, 2))
    return np.concatenate([corner, corner + draw.uniform(2, 30, (count, 2))], axis=1)


@pytest.mark.parametrize(
    ("predicted", "target", "found"),
    [
        (boxes([0, 0, 10, 10]), boxes([0, 0, 10, 10]), True),
        (boxes([0, 0, 10, 5]), boxes([0, 0, 10, 10]), False),  # exactly 0.5
        (boxes([0, 0, 10, 5.01]), boxes([0, 0, 10, 10]), True),
        (boxes([50, 50, 60, 60], [0, 0, 9, 9]), boxes([0, 0, 10, 10]), True),  # the second of two
        (boxes([0, 0, 4, 10], [6, 0, 10, 10]), boxes([0, 0, 10, 10]), False),  # the box around both is not looked at
        (boxes([0, 0, 9, 9]), boxes([50, 50, 60, 60], [0, 0, 10, 10]), True),
        (NONE, boxes([0, 0, 10, 10]), False),
        (NONE, NONE, True),
        (boxes([0, 0, 1, 1]), NONE, False),
        (boxes([3, 3, 3, 3]), boxes([3, 3, 3, 3]), False),  # no area
    ],
)
def test_a_box_is_found_by_any_box_of_more_than_half(predicted, target, found):
    assert box_found(predicted, target) is found


@settings(deadline=None)
@given(seed=st.integers(0, 1000), predicted=st.integers(1, 6), target=st.integers(1, 6))
def test_the_overlap_is_that_of_torchmetrics(torchmetrics, seed, predicted, target):
    draw = np.random.default_rng(seed)
    predicted_xyxy, target_xyxy = random_boxes(draw, predicted), random_boxes(draw, target)
    metric = torchmetrics.detection.IntersectionOverUnion(respect_labels=False)
    labels = [{"boxes": torch.tensor(each), "labels": torch.zeros(len(each), dtype=int)} for each in (
        predicted_xyxy, target_xyxy
    )]  # fmt: skip
    metric.update(labels[:1], labels[1:])
    best = float(metric.iou_matrix[0].max())
    assert box_found(predicted_xyxy, target_xyxy, best - 1e-9)
    assert not box_found(predicted_xyxy, target_xyxy, best + 1e-9)


def test_average_precision_of_hand_computed_cases():
    target = boxes([10, 10, 50, 50])
    assert average_precision([entry(target, target)]) == pytest.approx({"ap": 1.0, "ap50": 1.0, "ap75": 1.0})
    assert average_precision([entry(target, NONE)]) == {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    # IoU 0.8: right at the thresholds 0.5 .. 0.75 and, exactly on it, 0.8: 7 of 10.
    near = average_precision([entry(target, boxes([10, 10, 50, 42]))])
    assert near == pytest.approx({"ap": 0.7, "ap50": 1.0, "ap75": 1.0})
    # The larger box scores higher: a wrong one before the right one halves the precision at every recall.
    assert average_precision([entry(target, boxes([50, 50, 99, 99], [10, 10, 50, 50]))])["ap50"] == pytest.approx(0.5)
    assert average_precision([entry(target, boxes([60, 60, 70, 70], [10, 10, 50, 50]))])["ap50"] == pytest.approx(1.0)


def test_categories_are_averaged_and_images_told_apart():
    target = boxes([10, 10, 50, 50])
    found = [entry(target, target, category=1), entry(target, NONE, category=2)]
    assert average_precision(found)["ap"] == pytest.approx(0.5)
    elsewhere = [entry(target, NONE, image=1), entry(boxes([0, 0, 5, 5]), target, image=2)]
    assert average_precision(elsewhere)["ap"] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_torchmetrics(torchmetrics, seed):
    draw = np.random.default_rng(seed)
    # Its own thresholds are of single precision, which moves a recall that lies on one.
    overlaps, recalls = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
    metric = torchmetrics.detection.MeanAveragePrecision(iou_thresholds=overlaps, rec_thresholds=recalls)
    found = []
    for image in range(6):
        target = random_boxes(draw, int(draw.integers(1, 5)))
        near = target + draw.normal(0, 3, target.shape)
        predicted = np.concatenate([near, random_boxes(draw, int(draw.integers(0, 3)))])
        predicted = np.concatenate([np.minimum(predicted[:, :2], predicted[:, 2:] - 1), predicted[:, 2:]], axis=1)
        found.append(entry(target, predicted, image=image, category=image % 2))
        score = (predicted[:, 2:] - predicted[:, :2]).prod(axis=1) / 10_000
        labels = torch.full((len(predicted),), image % 2)
        metric.update(
            [{"boxes": torch.tensor(predicted), "scores": torch.tensor(score), "labels": labels}],
            [{"boxes": torch.tensor(target), "labels": torch.full((len(target),), image % 2)}],
        )
    expected = metric.compute()
    ours = average_precision(found)
    for name, theirs in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75")):
        assert ours[name] == pytest.approx(float(expected[theirs]), abs=1e-6)


def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong():
    target, crowd = boxes([10, 10, 30, 30]), boxes([50, 0, 99, 99])
    # Larger, so scored higher than the right one: wrong boxes before it would halve the precision.
    inside = boxes([50, 50, 80, 80], [55, 10, 95, 45])
    found = np.concatenate([target, inside])
    assert average_precision([entry(target, found)])["ap50"] == pytest.approx(1 / 3)
    assert average_precision([entry(target, found, crowd=crowd)])["ap"] == pytest.approx(1.0)
    # Three quarters of this one lie in the crowd: wrong where more is asked for.
    half_out = np.concatenate([target, boxes([40, 50, 80, 80])])
    figures = average_precision([entry(target, half_out, crowd=crowd)])
    assert (figures["ap50"], figures["ap75"]) == pytest.approx((1.0, 1.0)) and 0.5 < figures["ap"] < 1.0
    # A crowd is nothing to find: missing it costs nothing, a category of crowds alone has no figure.
    alone = [
        entry(target, target),
        entry(NONE, NONE, image=2, crowd=crowd),
        entry(NONE, crowd, category=7, crowd=crowd),
    ]
    assert average_precision(alone)["ap"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="needs an image with something to find"):
        average_precision([entry(NONE, NONE, crowd=crowd)])


def test_a_set_without_anything_to_find_or_with_a_pair_twice_is_an_error():
    with pytest.raises(ValueError, match=r"needs an image with something to find.*Fix:"):
        average_precision([entry(NONE, NONE)])
    with pytest.raises(ValueError, match=r"each pair of image and category once, but has 1 pairs.*Fix:"):
        average_precision([entry(boxes([0, 0, 1, 1]), NONE)] * 2)
