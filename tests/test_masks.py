import pickle

import numpy as np
import pytest

from verl_socio.masks import Masks, SegmentationError


def test_union_is_where_any_mask_is() -> None:
    masks_nhw = np.zeros((2, 3, 4), dtype=bool)
    masks_nhw[0, 0, 0] = masks_nhw[1, 2, 3] = True
    union = Masks(masks_nhw, np.array([0.5, 0.9])).union()
    assert union.shape == (3, 4)
    assert sorted(map(tuple, np.argwhere(union).tolist())) == [(0, 0), (2, 3)]


def test_no_mask_has_an_empty_union_of_the_images_size() -> None:
    masks = Masks.none((5, 2))
    assert masks.masks_nhw.shape == (0, 2, 5)
    assert masks.union().shape == (2, 5)
    assert not masks.union().any()


@pytest.mark.parametrize(
    ("masks_nhw", "scores", "message"),
    [
        (np.zeros((1, 2, 2)), np.zeros(1), "masks_nhw = 'float64 (1, 2, 2)'"),  # not bool
        (np.zeros((2, 2), dtype=bool), np.zeros(2), "masks_nhw = 'bool (2, 2)'"),  # one mask without its axis
        (np.zeros((1, 0, 2), dtype=bool), np.zeros(1), "masks_nhw"),  # no rows
        (np.zeros((2, 2, 2), dtype=bool), np.zeros(1), "predicted_iou = 'float64 (1,)'"),  # a score too few
        (np.zeros((1, 2, 2), dtype=bool), np.zeros(1, dtype=int), "predicted_iou = 'int64 (1,)'"),  # not float
        (np.zeros((1, 2, 2), dtype=bool), np.array([np.nan]), "must be finite"),
    ],
)
def test_wrong_arrays_are_refused(masks_nhw: np.ndarray, scores: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Masks(masks_nhw, scores)
    assert message in str(caught.value)


def test_the_error_names_the_image_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(SegmentationError("/data/a.png", "out of memory")))
    assert (error.uri, error.reason) == ("/data/a.png", "out of memory")
    assert str(error) == "segmentation of /data/a.png failed: out of memory"
