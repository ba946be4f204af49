import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.answer import Prompt
from verl_socio.segment.prompts import batches, check

_coordinate = st.floats(-1e6, 1e6, width=32)
_point = st.tuples(_coordinate, _coordinate)
_box = st.tuples(_coordinate, _coordinate, _coordinate, _coordinate)


@st.composite
def _prompts(draw: st.DrawFn) -> Prompt:
    box = draw(st.none() | _box)
    points = draw(st.lists(_point, min_size=0 if box else 1, max_size=4))
    return Prompt(box, tuple(points), tuple(draw(st.sampled_from([0, 1])) for _ in points))


@given(st.lists(_prompts(), max_size=12), st.integers(1, 5))
def test_each_prompt_is_in_one_batch_of_its_own_length(prompts: list[Prompt], limit: int) -> None:
    check(prompts)
    seen: list[int] = []
    for batch in batches(prompts, limit):
        assert 1 <= len(batch.indices) <= limit
        assert (batch.coords_xy.dtype, batch.labels.dtype) == (np.float32, np.int32)
        assert batch.coords_xy.shape == (*batch.labels.shape, 2)
        for index, coords_xy, labels in zip(batch.indices, batch.coords_xy, batch.labels, strict=True):
            prompt = prompts[index]
            corners = [] if prompt.box_xyxy is None else [prompt.box_xyxy[:2], prompt.box_xyxy[2:]]
            assert coords_xy.tolist() == [list(point) for point in (*corners, *prompt.points_xy)]
            assert labels.tolist() == [2, 3][: len(corners)] + list(prompt.labels)
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(len(prompts)))


def test_one_kind_of_prompt_makes_one_batch() -> None:
    boxes = [Prompt((0.0, 0.0, 1.0 + k, 2.0)) for k in range(5)]
    assert [batch.indices.tolist() for batch in batches(boxes, 64)] == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(None), r"prompts\[1\] = .*must have a box or a point"),
        (Prompt((0.0, 0.0, float("nan"), 1.0)), r"prompts\[1\] = .*must have finite coordinates"),
        (Prompt(None, ((float("inf"), 0.0),), (1,)), r"prompts\[1\] = .*must have finite coordinates"),
    ],
)
def test_nonsense_is_refused_by_its_place(prompt: Prompt, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check([Prompt((0.0, 0.0, 1.0, 1.0)), prompt])
