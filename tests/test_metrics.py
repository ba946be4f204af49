from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.metrics import MaskScore, NoTargetScore, SegmentationScore, mask_iou, matched_instances, measure


def mask(*rectangles, size=(20, 20)):
    """A bool mask with rectangles x1, y1, x2, y2."""
    mask_hw = np.zeros(size, dtype=bool)
    for x1, y1, x2, y2 in rectangles:
        mask_hw[y1:y2, x1:x2] = True
    return mask_hw


EMPTY = mask()


# --- IoU of two masks ---


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        (EMPTY, EMPTY, 1.0),
        (EMPTY, mask((0, 0, 1, 1)), 0.0),
        (mask((0, 0, 1, 1)), EMPTY, 0.0),
        (mask((0, 0, 4, 4)), mask((0, 0, 4, 4)), 1.0),
        (mask((0, 0, 4, 4)), mask((2, 0, 6, 4)), 8 / 24),
        (mask((0, 0, 20, 20)), mask((0, 0, 10, 10)), 0.25),
    ],
)
def test_mask_iou(prediction, target, expected):
    assert mask_iou(prediction, target) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "target", "match"),
    [
        (np.zeros((3, 4), bool), np.zeros((4, 3), bool), r"prediction_hw\.shape = \(3, 4\).*\(4, 3\)"),
        (np.zeros((3, 4), bool), np.zeros((3, 4, 1), bool), "target_hw"),
        (np.zeros((3, 4), np.uint8), np.zeros((3, 4), bool), "prediction_hw"),
        (np.zeros((3, 4), bool), np.zeros((3, 4)), "target_hw"),
    ],
)
def test_masks_that_cannot_be_compared(prediction, target, match):
    with pytest.raises(ValueError, match=match):
        mask_iou(prediction, target)


# --- instances ---


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        (EMPTY, EMPTY, (0, 0, 0)),
        (mask((0, 0, 4, 4)), EMPTY, (0, 1, 0)),
        (EMPTY, mask((0, 0, 4, 4)), (0, 0, 1)),
        (mask((0, 0, 4, 4)), mask((0, 0, 4, 4)), (1, 1, 1)),
        (mask((0, 0, 4, 4)), mask((0, 0, 4, 8)), (1, 1, 1)),  # IoU 0.5 is a hit
        (mask((0, 0, 4, 4)), mask((0, 0, 4, 9)), (0, 1, 1)),  # IoU 4/9 is none
        (mask((0, 0, 20, 20)), mask((0, 0, 5, 5), (10, 10, 15, 15)), (0, 1, 2)),  # the whole image finds nothing
        (mask((0, 0, 4, 4), (10, 10, 14, 14)), mask((10, 10, 14, 14), (0, 0, 4, 4), (0, 10, 5, 13)), (2, 2, 3)),
        (mask((0, 0, 5, 2)), mask((0, 0, 5, 2)), (0, 0, 0)),  # 10 px: a crumb on both sides
        # One region over two halves: IoU 0.5 less the gap with one of them, and it may have one only.
        (mask((0, 0, 10, 4)), mask((0, 0, 5, 4), (6, 0, 10, 4)), (1, 1, 2)),
    ],
)
def test_matched_instances(prediction, target, expected):
    assert matched_instances(prediction, target) == expected


def test_a_match_is_one_to_one():
    # Two predictions overlap one target; one of them must stay a false positive.
    target = mask((0, 0, 10, 10))
    prediction = mask((0, 0, 10, 6), (0, 7, 10, 10))
    assert matched_instances(prediction, target) == (1, 2, 1)


def test_a_match_is_one_to_one_below_one_half_too():
    target = mask((0, 0, 10, 10))
    prediction = mask((0, 0, 10, 5), (0, 6, 10, 10))
    assert matched_instances(prediction, target, iou_threshold=0.3) == (1, 2, 1)
    assert matched_instances(target, prediction, iou_threshold=0.3) == (1, 1, 2)


def test_the_matching_is_by_summed_iou_not_by_hits():
    # IoU of the long regions 209/391 = 0.53, of each with the other's rest 90/300 = 0.3: two of these are worth more.
    prediction = mask((0, 0, 300, 4), (301, 0, 391, 4), size=(4, 400))
    target = mask((0, 0, 90, 4), (91, 0, 391, 4), size=(4, 400))
    assert matched_instances(prediction, target) == (0, 2, 2)


def flood_regions(mask_hw, min_area):
    """Connected regions by a flood fill over sets of pixels, not by scipy."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask_hw), strict=True)}
    regions = []
    while left:
        region, border = set(), [left.pop()]
        while border:
            y, x = border.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            border += near
        if len(region) > min_area:
            regions.append(region)
    return regions


def brute_force_hits(predicted, targeted):
    """Numbers of hits of all one-to-one matchings with the largest summed IoU."""
    if len(predicted) > len(targeted):
        predicted, targeted = targeted, predicted
    best, hits = -1.0, set()
    for chosen in permutations(targeted, len(predicted)):
        ious = [len(a & b) / len(a | b) for a, b in zip(predicted, chosen, strict=True)]
        if sum(ious) > best + 1e-12:
            best, hits = sum(ious), set()
        if sum(ious) > best - 1e-12:
            hits.add(sum(iou >= 0.5 for iou in ious))
    return hits


@st.composite
def masks(draw, most=3):
    rectangles = []
    for _ in range(draw(st.integers(0, most))):
        x, y = draw(st.integers(0, 18)), draw(st.integers(0, 18))
        rectangles.append((x, y, x + draw(st.integers(1, 9)), y + draw(st.integers(1, 9))))
    return mask(*rectangles)


@st.composite
def similar_masks(draw):
    """A target and a prediction that is often the target moved a little."""
    target = draw(masks(4))
    if draw(st.booleans()):
        return draw(masks(4)), target
    return np.roll(target, (draw(st.integers(-2, 2)), draw(st.integers(-2, 2))), (0, 1)), target


@settings(max_examples=200, deadline=None)
@given(similar_masks(), st.sampled_from([0, 3, 10]))
def test_matching_agrees_with_all_permutations(pair, min_area):
    prediction, target = pair
    predicted, targeted = flood_regions(prediction, min_area), flood_regions(target, min_area)
    hits, n_predicted, n_targeted = matched_instances(prediction, target, min_area)
    assert (n_predicted, n_targeted) == (len(predicted), len(targeted))
    assert hits in brute_force_hits(predicted, targeted)


def test_thousands_of_crumbs_are_matched():
    crumbs = np.zeros((400, 400), dtype=bool)
    crumbs[::4, ::4] = True
    assert matched_instances(crumbs, crumbs, min_area=0) == (10_000, 10_000, 10_000)
    assert matched_instances(crumbs, np.ones_like(crumbs), min_area=0) == (0, 10_000, 1)
    assert matched_instances(crumbs, np.roll(crumbs, 2), min_area=0) == (0, 10_000, 10_000)


# --- the score of a set ---


def test_a_hand_computed_set():
    score = SegmentationScore()
    assert score.update(mask((0, 0, 4, 4)), mask((0, 0, 4, 8))) == 0.5  # I 16, U 32, one hit
    assert score.update(EMPTY, EMPTY) == 1.0
    assert score.update(mask((0, 0, 6, 6)), mask((10, 10, 14, 14))) == 0.0  # I 0, U 52, no hit
    assert score.compute() == {"ciou": 16 / 84, "giou": 0.5, "f1": 2 * 1 / (1 + 1 + 1 + 1), "n": 3}


def test_a_failed_sample_counts_its_whole_target():
    score = SegmentationScore()
    score.update(mask((0, 0, 4, 4)), mask((0, 0, 4, 4)))
    score.add_failure(mask((0, 0, 4, 4), (10, 10, 14, 14)))
    assert score.failures == 1
    assert score.compute() == {"ciou": 16 / 48, "giou": 0.5, "f1": 2 / 4, "n": 2}


def test_a_failure_on_an_empty_target_is_still_no_success():
    score = SegmentationScore()
    score.add_failure(EMPTY)
    assert score.compute() == {"ciou": 0.0, "giou": 0.0, "f1": 0.0, "n": 1}


def test_a_set_without_anything_to_find_is_right_if_nothing_is_predicted():
    score = SegmentationScore()
    score.update(EMPTY, EMPTY)
    assert score.compute() == {"ciou": 1.0, "giou": 1.0, "f1": 1.0, "n": 1}


def test_ignored_pixels_count_on_neither_side():
    label = np.zeros((20, 20), dtype=np.uint8)
    label[0:4, 0:8] = 1
    label[0:4, 4:20] = 255
    score = SegmentationScore()
    iou = score.update(mask((0, 0, 12, 4)), label == 1, ignore_hw=label == 255)
    assert iou == 1.0
    assert score.compute() == {"ciou": 1.0, "giou": 1.0, "f1": 1.0, "n": 1}
    score.add_failure(mask((0, 0, 8, 4)), ignore_hw=label == 255)
    assert score.compute()["ciou"] == 16 / 32


def test_everything_ignored_is_an_empty_image():
    score = SegmentationScore()
    assert score.update(mask((0, 0, 9, 9)), mask((5, 5, 9, 9)), ignore_hw=np.ones((20, 20), bool)) == 1.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(similar_masks(), masks(1), st.booleans()), min_size=1, max_size=5))
def test_the_score_agrees_with_an_independent_computation(cases):
    score = SegmentationScore()
    intersections, unions, ious, true, false = [], [], [], 0, 0
    ambiguous = False
    for (prediction, target), ignored, failed in cases:
        if failed:
            score.add_failure(target, ignored)
        else:
            score.update(prediction, target, ignored)
        # Counted from the cells of a confusion matrix, as sklearn would, not from logical masks.
        kept = ~ignored.ravel()
        guess = np.zeros(kept.sum(), int) if failed else prediction.ravel()[kept].astype(int)
        cells = np.bincount(2 * target.ravel()[kept].astype(int) + guess, minlength=4)
        intersections.append(float(cells[3]))
        unions.append(float(cells[1] + cells[2] + cells[3]))
        ious.append(0.0 if failed else (1.0 if unions[-1] == 0 else intersections[-1] / unions[-1]))
        targeted = flood_regions(target & ~ignored, 10)
        predicted = [] if failed else flood_regions(prediction & ~ignored, 10)
        hits = brute_force_hits(predicted, targeted)
        ambiguous |= len(hits) > 1
        true += min(hits)
        false += len(targeted) + len(predicted) - 2 * min(hits)
    result = score.compute()
    nothing = 0.0 if any(failed for *_, failed in cases) else 1.0
    assert result["ciou"] == pytest.approx(sum(intersections) / sum(unions) if sum(unions) else nothing, abs=1e-9)
    assert result["giou"] == pytest.approx(np.mean(ious), abs=1e-9)
    assert result["n"] == len(cases)
    if not ambiguous:
        expected = true / (true + false / 2) if true + false else nothing
        assert result["f1"] == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(st.lists(similar_masks(), min_size=2, max_size=6), st.integers(0, 6))
def test_merged_parts_are_the_whole(pairs, cut):
    whole, first, second = SegmentationScore(), SegmentationScore(), SegmentationScore()
    for index, pair in enumerate(pairs):
        whole.update(*pair)
        (first if index < cut else second).update(*pair)
    whole.add_failure(pairs[0][1])
    second.add_failure(pairs[0][1])
    first.merge(second)
    assert first.compute() == whole.compute()
    assert first.failures == whole.failures == 1


def test_scores_of_other_settings_do_not_merge():
    with pytest.raises(ValueError, match="same settings"):
        SegmentationScore().merge(SegmentationScore(min_area=0))


def test_no_image_is_no_score():
    with pytest.raises(ValueError, match=r"score\.n"):
        SegmentationScore().compute()


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_threshold_out_of_range(threshold):
    with pytest.raises(ValueError, match="iou_threshold"):
        SegmentationScore(iou_threshold=threshold)


@pytest.mark.parametrize("ignored", [np.zeros((4, 4), bool), np.zeros((20, 20))])
def test_ignored_pixels_must_fit(ignored):
    with pytest.raises(ValueError, match="ignore_hw"):
        SegmentationScore().update(EMPTY, EMPTY, ignored)


def some_masks(seed, empty=False):
    rng = np.random.default_rng(seed)
    mask_hw = np.zeros((40, 50), dtype=bool)
    for x, y in () if empty else rng.integers(0, 30, (3, 2)):
        mask_hw[y : y + 8, x : x + 9] = True
    return mask_hw


def test_measured_masks_add_up_to_the_score_of_the_masks():
    expected, tally = SegmentationScore(), SegmentationScore()
    for seed in range(12):
        prediction_hw, target_hw = some_masks(seed, empty=seed in (3, 5)), some_masks(seed + 6, empty=seed in (5, 7))
        if seed % 4 == 2:
            expected.add_failure(target_hw)
            score = measure(target_hw, target_hw)
            tally.add_failed(score.union, score.targeted)
        else:
            expected.update(prediction_hw, target_hw)
            tally.add(measure(prediction_hw, target_hw))
    assert tally.compute() == expected.compute()
    assert 0 < expected.compute()["f1"] < 1, "the masks must tell"
    assert tally.failures == 3


# --- ignored pixels, answers that could not be read, precision, no target ---


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 40), n=st.integers(1, 6), density=st.floats(0, 1))
def test_overlaps_are_those_of_torchmetrics_and_pycocotools(torchmetrics, seed, size, n, density):
    import torch
    from pycocotools import mask as coco

    def overlap(prediction, labels):
        """The IoU of torchmetrics' counts; its own quotient is of single precision."""
        counted = torchmetrics.functional.classification.binary_confusion_matrix(prediction, labels, ignore_index=255)
        _, false_positive, false_negative, true_positive = counted.flatten().tolist()
        union = true_positive + false_positive + false_negative
        return true_positive / union if union else 1.0

    draw = np.random.default_rng(seed)
    score, each, pixels = SegmentationScore(), [], []
    for _ in range(n):
        prediction, target, ignored = (draw.random((size, size)) < share for share in (density, 0.5, 0.1))
        score.update(prediction, target, ignored)
        labels = torch.where(torch.tensor(ignored), 255, torch.tensor(target).long())
        each.append(overlap(torch.tensor(prediction).long(), labels))
        pixels.append((torch.tensor(prediction).long().flatten(), labels.flatten()))
        kept = [np.asfortranarray((mask & ~ignored).astype(np.uint8)) for mask in (prediction, target)]
        encoded = [coco.encode(mask) for mask in kept]
        if kept[0].any() and kept[1].any():
            assert measure(prediction, target, ignored).iou == pytest.approx(
                float(coco.iou(encoded[:1], encoded[1:], [0])[0, 0]), abs=1e-9
            )
    predictions, labels = (torch.cat(side) for side in zip(*pixels, strict=True))
    figures = score.compute()
    assert figures["ciou"] == pytest.approx(overlap(predictions, labels), abs=1e-9)
    assert figures["giou"] == pytest.approx(sum(each) / n, abs=1e-9)


def test_an_answer_that_could_not_be_read_does_not_say_that_nothing_is_there():
    nothing, all_of_it = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert measure(nothing, nothing).iou == 1.0
    assert measure(nothing, nothing, answered=False) == MaskScore(0.0, 0, 0, 0, 0, 0)
    assert measure(nothing, all_of_it, answered=False) == measure(nothing, all_of_it)
    score = SegmentationScore()
    score.add(measure(nothing, nothing, answered=False))
    assert score.compute() == {"ciou": 0.0, "giou": 0.0, "f1": 0.0, "n": 1}
    other = SegmentationScore()
    other.update(nothing, nothing)
    other.merge(score)
    assert other.compute() == {"ciou": 0.0, "giou": 0.5, "f1": 0.0, "n": 2}


def test_ignored_pixels_are_left_out_where_a_mask_is_measured():
    target, prediction, ignored = np.zeros((4, 5), bool), np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    target[0], prediction[0, :4], prediction[3] = True, True, True
    ignored[3] = True
    assert measure(prediction, target, ignored).iou == 4 / 5
    assert measure(prediction, target).iou == 4 / 10
    assert measure(ignored, ignored, ignored).iou == 1.0, "nothing is left on either side"


def test_precision_is_the_share_of_images_at_or_above_and_failures_are_below():
    score = SegmentationScore()
    for iou in (0.5, 0.69, 0.7, 1.0):
        score.add(MaskScore(iou, 1, 2, 0, 1, 1))
    score.add_failed(5, 1)
    assert score.precision([0.5, 0.6, 0.7, 0.8, 0.9]) == [0.8, 0.6, 0.4, 0.2, 0.2]
    with pytest.raises(ValueError, match="no image to score"):
        SegmentationScore().precision([0.5])


def test_no_target_accuracy_looks_at_images_without_a_target_alone():
    score = NoTargetScore()
    assert score.compute() is None
    score.add(100, MaskScore(0.0, 0, 100, 0, 0, 1))
    assert score.compute() is None
    nothing, one_pixel = np.zeros((4, 4), bool), np.eye(1, 16, dtype=bool).reshape(4, 4)
    score.add(0, measure(nothing, nothing))
    score.add(0, measure(one_pixel, nothing))
    score.add(0, measure(nothing, nothing, answered=False))
    score.add(0, None)
    assert (score.samples, score.compute()) == (4, 0.25)
