from collections.abc import Callable

import numpy as np
import pytest
import torch

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.segment.config import SegmenterConfig
from verl_socio.segment.loader import load_predictor
from verl_socio.segment.prompts import batches
from verl_socio.segment.sam2_model import NonFiniteError, Sam2Model

# Every shape a prompt can have; on an image of 96 x 64.
PROMPTS = [
    Prompt((5.0, 6.0, 60.0, 40.0)),
    Prompt((20.0, 3.0, 90.5, 60.25)),
    Prompt((5.0, 6.0, 60.0, 40.0), ((10.0, 10.0), (50.0, 30.0)), (1, 1)),
    Prompt((5.0, 6.0, 60.0, 40.0), ((10.0, 10.0), (50.0, 30.0)), (1, 0)),
    Prompt((30.0, 6.0, 60.0, 40.0), ((40.0, 10.0),), (1,)),
    Prompt(None, ((10.0, 10.0),), (1,)),
    Prompt(None, ((10.0, 10.0), (80.0, 50.0)), (1, 0)),
    Prompt((0.0, 0.0, 96.0, 64.0)),
]


@pytest.mark.parametrize("multimask", [True, False])
def test_batches_give_what_sam2s_own_predictor_gives_one_by_one(
    picture: Callable[..., ImageRef], multimask: bool
) -> None:
    model = Sam2Model(load_predictor(SegmenterConfig(device="cpu")), multimask=multimask)
    reference = load_predictor(SegmenterConfig(device="cpu"))
    image = picture().open()
    features = model.encode(image)
    reference.set_image(image)

    masks, count = model.decode(features, PROMPTS)
    assert count == 4  # lengths 2, 4, 3 and 1
    spread = 0.0
    for batch in batches(PROMPTS, 64):
        logits, scores = model.logits(features, batch)
        for index, found, score in zip(batch.indices, logits, scores, strict=True):
            prompt = PROMPTS[index]
            expected, ious, _ = reference.predict(
                point_coords=np.array(prompt.points_xy) if prompt.points_xy else None,
                point_labels=np.array(prompt.labels) if prompt.labels else None,
                box=None if prompt.box_xyxy is None else np.array(prompt.box_xyxy),
                multimask_output=multimask,
                return_logits=True,
            )
            best = int(ious.argmax())
            np.testing.assert_allclose(found.numpy(), expected[best], rtol=1e-5, atol=1e-5, err_msg=str(prompt))
            assert abs(float(score) - ious[best]) < 1e-5
            assert masks.predicted_iou[index] == pytest.approx(ious[best], abs=1e-5)
            certain = np.abs(expected[best]) > 1e-5
            assert (masks.masks_nhw[index] == (expected[best] > 0))[certain].all()
            spread = max(spread, float(expected[best].std()))
    assert spread > 1e-2  # the tolerances above are small beside the logits themselves


def test_a_mask_does_not_depend_on_the_other_prompts(picture: Callable[..., ImageRef]) -> None:
    model = Sam2Model(load_predictor(SegmenterConfig(device="cpu")))
    features = model.encode(picture().open())
    together, _ = model.decode(features, PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        alone, _ = model.decode(features, [prompt])
        assert (alone.masks_nhw[0] == together.masks_nhw[index]).mean() > 0.999


def test_features_of_two_images_are_kept_apart(picture: Callable[..., ImageRef]) -> None:
    model = Sam2Model(load_predictor(SegmenterConfig(device="cpu")))
    first, second = model.encode(picture(0).open()), model.encode(picture(1, (40, 80)).open())
    before, _ = model.decode(first, PROMPTS[:1])
    other, _ = model.decode(second, PROMPTS[:1])
    again, _ = model.decode(first, PROMPTS[:1])
    assert (before.masks_nhw.shape, other.masks_nhw.shape) == ((1, 64, 96), (1, 80, 40))
    assert np.array_equal(before.masks_nhw, again.masks_nhw)


def test_many_prompts_are_decoded_in_bounded_batches(picture: Callable[..., ImageRef]) -> None:
    model = Sam2Model(load_predictor(SegmenterConfig(device="cpu")))
    features = model.encode(picture().open())
    prompts = [Prompt((float(k % 40), 1.0, 50.0, 60.0)) for k in range(70)]
    masks, count = model.decode(features, prompts)
    assert count == 2
    assert np.array_equal(masks.masks_nhw[3], masks.masks_nhw[43])


def test_numbers_that_are_not_finite_are_no_empty_mask(picture: Callable[..., ImageRef]) -> None:
    predictor = load_predictor(SegmenterConfig(device="cpu"))
    model = Sam2Model(predictor)
    features = model.encode(picture().open())
    with torch.no_grad():
        predictor.model.sam_mask_decoder.mask_tokens.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError):
        model.decode(features, PROMPTS[:1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_bfloat16_autocast_on_a_gpu_agrees_with_float32_on_the_cpu(picture: Callable[..., ImageRef]) -> None:
    image = picture().open()
    found = []
    for device in ("cuda", "cpu"):
        model = Sam2Model(load_predictor(SegmenterConfig(device=device)))
        features = model.encode(image)
        found.append(model.decode(features, PROMPTS)[0])
    assert np.abs(found[0].predicted_iou - found[1].predicted_iou).max() < 0.02
    # Random weights give flat logits: a few pixels near zero may fall on the other side.
    assert (found[0].masks_nhw == found[1].masks_nhw).mean() > 0.9
