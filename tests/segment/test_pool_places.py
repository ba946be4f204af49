"""Where the actors of a pool go, without Ray: real ones are in test_pool.py."""

from typing import Any

import pytest

from verl_socio.segment import SegmenterConfig
from verl_socio.segment.pool import _placed, _places


def node(name: str, gpus: int, alive: bool = True) -> dict[str, Any]:
    """As Ray describes one."""
    return {"NodeID": name * 56, "Alive": alive, "Resources": {"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {})}}


NODES = [node("b", 2), node("c", 0), node("a", 2), node("d", 2, alive=False)]


def test_actors_that_share_gpus_are_dealt_out_over_the_nodes_that_have_some() -> None:
    places = _places(SegmenterConfig(num_actors=5), NODES)
    assert [(strategy.node_id[0], turn) for strategy, turn in places] == [
        ("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "nodes"),
    [({"device": "cpu"}, NODES), ({"weights": "boxes"}, NODES), ({"num_gpus": 0.5}, NODES), ({}, [node("c", 0)])],
)
def test_all_other_actors_go_where_ray_sends_them(settings: dict[str, Any], nodes: list[dict[str, Any]]) -> None:
    config = SegmenterConfig(num_actors=2, **settings)
    assert _places(config, nodes) == [("DEFAULT", 0), ("DEFAULT", 1)]


@pytest.mark.parametrize(("gpus", "used"), [(None, "01230"), (3, "01201"), (1, "00000"), (8, "01230")])
def test_they_share_no_more_gpus_of_a_node_than_the_run_was_given(
    gpus: int | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    devices = [_placed(SegmenterConfig(), turn, gpus).device for turn in range(5)]
    assert devices == [f"cuda:{index}" for index in used]
    assert _placed(SegmenterConfig(device="cuda:3"), 0, gpus).device == "cuda:3"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert _placed(SegmenterConfig(), 0, gpus).device == "auto"
