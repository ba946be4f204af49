import asyncio
import os
import resource

import numpy as np
import pytest
from PIL import Image

from verl_socio.evaluate.ground_truth import center_box_mask
from verl_socio.masks import Masks, SegmentationError
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.segment.sam2_segmenter import DeviceError

SIZE_WH = (64, 48)
TARGET_XYXY = (5, 10, 25, 30)
# The scripted model speaks in a frame of twice the image's pixels.
TOLD = [float(2 * side) for side in TARGET_XYXY]
HALF = [TOLD[0], TOLD[1], (TOLD[0] + TOLD[2]) / 2, TOLD[3]]


@pytest.fixture
def refining(answer):
    return lambda turn: answer([HALF]) if turn.stage == 0 else answer([TOLD], points=True)


def test_a_row_holds_what_happened_in_the_image_s_own_pixels(samples, evaluate, scripted, answer, refining):
    rows = {row.id: row for row in evaluate(samples, scripted(refining)).rows()}
    assert sorted(rows) == [sample.id for sample in samples]
    row = rows["sample_2"]
    assert (row.question, row.level, row.size_wh, row.failure) == ("Place 2", "class", SIZE_WH, None)
    assert (row.target_area, row.target_instances) == (400, 1)
    localise, refine = row.stages
    assert (localise.name, localise.status, localise.reason, localise.thinking) == ("localise", "ok", "", "hm")
    assert localise.text == answer([HALF]) and localise.think_format
    assert localise.prompts == ({"box_xyxy": [5.0, 10.0, 15.0, 30.0], "points_xy": [], "labels": []},)
    assert (localise.score.iou, localise.score.intersection, localise.score.union) == (0.5, 200, 400)
    assert (localise.score.hits, localise.score.predicted, localise.score.targeted) == (1, 1, 1)
    assert refine.prompts == ({"box_xyxy": [5.0, 10.0, 25.0, 30.0], "points_xy": [[5.5, 10.5]], "labels": [1]},)
    assert (refine.score.iou, refine.predicted_iou, refine.tokens, refine.cut_off) == (1.0, (1.0,), None, None)
    assert row.index == 2
    times = [(stage.generate_at, stage.generate_s, stage.segment_at, stage.segment_s) for stage in row.stages]
    ends = [time for at, seconds, later, more in times for time in (at, at + seconds, later, later + more)]
    assert ends == sorted(ends) and 0 < ends[0] and ends[-1] < row.seconds


def test_an_answer_that_cannot_be_parsed_is_a_result_and_no_failure(samples, evaluate, scripted):
    [row, *_] = evaluate(samples, scripted(lambda turn: "no idea")).rows()
    assert row.failure is None
    assert [stage.status for stage in row.stages] == ["unparseable"] * 2
    assert all(stage.reason and stage.score.iou == 0.0 and stage.score.predicted == 0 for stage in row.stages)
    assert row.stages[0].segment_s == 0.0


def test_what_the_model_or_the_segmenter_cannot_do_is_a_failure_with_its_reason(samples, evaluate, scripted, refining):
    def texts(turn):
        return ValueError("the prompt is too long") if "Place 1" in turn.text else refining(turn)

    class Failing:
        async def segment(self, image, prompts):
            if "sample_2" in image.uri:
                raise SegmentationError(image.uri, "out of memory")
            return Masks(np.ones((len(prompts), SIZE_WH[1], SIZE_WH[0]), dtype=bool), np.ones(len(prompts)))

    rows = {row.id: row for row in evaluate(samples, scripted(texts), Failing()).rows()}
    assert rows["sample_0"].failure is None
    assert rows["sample_1"].failure == "the prompt is too long"
    assert "out of memory" in rows["sample_2"].failure
    assert rows["sample_2"].stages == () and rows["sample_2"].target_area == 400


def damage(path):
    with open(path, "r+b") as file:
        file.truncate(60)  # the head, which has the size, stays


@pytest.mark.parametrize("harm", [damage, os.remove])
@pytest.mark.parametrize("image", ["satellite", "map"])
def test_a_picture_that_is_damaged_or_gone_fails_its_own_sample_only(
    samples, evaluate, scripted, refining, image, harm
):
    path = getattr(samples[1], image).uri
    harm(path)
    rows = {row.id: row for row in evaluate(samples, scripted(refining)).rows()}
    assert [row.id for row in rows.values() if row.failure is not None] == ["sample_1"]
    failed, sound = rows["sample_1"], rows["sample_0"]
    assert path in failed.failure and failed.stages == ()
    for known in ("size_wh", "target_area", "target_instances", "center_box"):
        assert getattr(failed, known) == getattr(sound, known)


@pytest.mark.parametrize("harm", [damage, os.remove])
def test_without_its_mask_nobody_knows_what_a_sample_counts(samples, evaluate, scripted, refining, harm):
    harm(samples[1].target.uri)
    with pytest.raises(ValueError, match=r"sample_1/mask.png': must be "):
        evaluate(samples, scripted(refining))


@pytest.mark.parametrize("fatal", [DeviceError("x.png", "the GPU is gone"), RuntimeError("the engine is dead")])
def test_what_kills_every_later_sample_stops_and_the_next_run_goes_on(samples, evaluate, fatal, scripted, refining):
    def texts(turn):
        return fatal if "Place 2" in turn.text and turn.stage == 1 else refining(turn)

    with pytest.raises(type(fatal)):
        evaluate(samples, scripted(texts), concurrency=1)
    second = scripted(refining)
    results = evaluate(samples, second, concurrency=1)
    assert [row.id for row in results.rows()] == [sample.id for sample in samples]
    assert len(second.turns) == 2 * 2, "two samples were done before"
    assert all(row.failure is None for row in results.rows())


def test_a_full_disk_stops_with_the_sample_s_name_and_the_next_run_goes_on(
    samples, evaluate, scripted, refining, tmp_path
):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    evaluate(samples[:1], scripted(refining), concurrency=1)
    room = int(1.5 * (tmp_path / "eval" / "results.jsonl").stat().st_size)
    # The system refuses larger files, as it does where no room is left.
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(RuntimeError, match=r"sample sample_1: .*finished samples are kept"):
            evaluate(samples, scripted(refining), concurrency=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    second = scripted(refining)
    assert [row.id for row in evaluate(samples, second, concurrency=1).rows()] == [sample.id for sample in samples]
    assert len(second.turns) == 3 * 2, "the first was kept"


def test_episodes_run_side_by_side_up_to_the_limit_without_a_barrier_between_stages(
    samples, evaluate, scripted, refining
):
    arrived = asyncio.Event()

    class Waiting(scripted):
        async def __call__(self, turn):
            # The first sample's first stage ends only after another sample is in its second stage.
            if turn.stage == 1:
                arrived.set()
            if turn.stage == 0 and "Place 0" in turn.text:
                await arrived.wait()
            return await super().__call__(turn)

    host = Waiting(refining, pause=0.001)
    assert len(list(evaluate(samples, host, concurrency=2).rows())) == 4
    assert host.most == 2


def test_pictures_are_drawn_of_as_many_samples_as_wanted(samples, evaluate, tmp_path, scripted, refining):
    evaluate(samples, scripted(refining), wanted=2)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["00000_sample_0.jpg", "00002_sample_2.jpg"]
    with Image.open(tmp_path / "pictures" / names[0]) as image:
        assert image.width > 4 * SIZE_WH[0] and image.height > 2 * SIZE_WH[1]


def test_the_centre_box_covers_the_asked_share():
    mask_hw = center_box_mask((100, 200), 0.25)
    assert mask_hw.mean() == 0.25
    assert mask_hw[25:75, 50:150].all()
    assert center_box_mask((7, 9), 1.0).all()


class Trusting:
    """Fills boxes, and trusts large ones more."""

    async def segment(self, image, prompts):
        masks = await BoxSegmenter().segment(image, prompts)
        return Masks(masks.masks_nhw, masks.masks_nhw.mean(axis=(1, 2)))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_of_several_draws_the_one_is_kept_whose_masks_are_trusted_most(
    samples, evaluate, scripted, answer, refining, place
):
    draws = [scripted(lambda turn: answer([HALF])), scripted(lambda turn: "no idea")]
    draws.insert(place, scripted(refining))
    rows = list(evaluate(samples, draws[0], Trusting(), others=tuple(draws[1:])).rows())
    assert [row.stages[-1].score.iou for row in rows] == [1.0] * 4
    assert [len(draw.turns) for draw in draws] == [8] * 3


def test_a_draw_that_fails_fails_the_sample(samples, evaluate, scripted, refining):
    bad = scripted(lambda turn: ValueError("too long") if "Place 1" in turn.text else refining(turn))
    rows = {row.id: row for row in evaluate(samples, scripted(refining), others=(bad,)).rows()}
    assert rows["sample_1"].failure == "too long" and rows["sample_0"].failure is None
