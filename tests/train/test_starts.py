import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from verl_socio import provenance
from verl_socio.train import starts
from verl_socio.train.settings import resolve
from verl_socio.train.starts import STARTS, note_start, read_starts


@pytest.fixture
def config(tmp_path: Path) -> DictConfig:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return resolve("embedded", [f"actor_rollout_ref.model.path={model}"])


def test_a_start_tells_code_weights_prompts_and_packages(config: DictConfig, tmp_path: Path) -> None:
    assert note_start(config, tmp_path, "20260101-000000", 0) == []
    (start,) = read_starts(tmp_path / STARTS)
    assert (start["started"], start["from_step"]) == ("20260101-000000", 0)
    identity = start["identity"]
    assert identity["code"] == provenance.code_hash(starts._NO_PART)
    assert identity["model"] == provenance.folder_hash(tmp_path / "model")
    assert identity["prompts"].keys() == {"localise", "refine"}
    assert "{{ question }}" in identity["prompts"]["localise"]
    assert {"verl", "torch", "ray"} <= identity["versions"].keys()


def test_what_a_run_goes_on_with_is_told_where_it_is_another(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_start(config, tmp_path, "1", 0)
    assert note_start(config, tmp_path, "2", 20) == []
    monkeypatch.setattr(provenance, "code_hash", lambda without: "another")
    (tmp_path / "model" / "config.json").write_text("{ }")
    assert note_start(config, tmp_path, "3", 40) == ["code", "model"]
    assert [(start["started"], start["from_step"]) for start in read_starts(tmp_path / STARTS)] == [
        ("1", 0), ("2", 20), ("3", 40),
    ]  # fmt: skip


def test_every_part_that_trains_changes_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "verl_socio"
    for place in ("__init__.py", "rewards/boxes.py", "engine/actor.py", "train/launch.py", "study/page.py", "cli.py"):
        (package / place).parent.mkdir(parents=True, exist_ok=True)
        (package / place).write_text("1")
    monkeypatch.setattr(provenance.verl_socio, "__file__", str(package / "__init__.py"))
    seen = {provenance.code_hash(starts._NO_PART)}
    for place in ("rewards/boxes.py", "engine/actor.py", "train/launch.py"):
        (package / place).write_text("22")
        seen.add(provenance.code_hash(starts._NO_PART))
    assert len(seen) == 4
    for place in ("study/page.py", "cli.py"):
        (package / place).write_text("22")
        seen.add(provenance.code_hash(starts._NO_PART))
    assert len(seen) == 4


def test_a_model_of_the_hub_is_told_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert starts._model("someone/model") == "someone/model", "not in the cache"
    cached, commit = tmp_path / "models--someone--model", "0123456789abcdef0123456789abcdef01234567"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "config.json").write_text("{}")
    assert starts._model("someone/model") == f"someone/model@{commit}"


def test_a_run_from_before_has_none(tmp_path: Path) -> None:
    assert read_starts(tmp_path / STARTS) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary()
    | st.lists(st.sampled_from([b'{"identity": {"code": "c"}}', b"[1]", b'{"identity": 3}', b"[" * 9, b"{}"])).map(
        b"\n".join
    )
)
def test_no_content_breaks_the_reader(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / STARTS
    path.write_bytes(content)
    try:
        found = read_starts(path)
    except ValueError as error:
        assert "starts" in str(error)
        assert "Fix: move it away" in str(error)
    else:
        assert all(isinstance(start["identity"]["code"], str) for start in found)


def test_a_line_that_is_no_start_is_told(tmp_path: Path) -> None:
    good = json.dumps({"identity": {"code": "c"}})
    (tmp_path / STARTS).write_text(f"{good}\nnonsense\n")
    with pytest.raises(ValueError, match=r"starts = .*starts.jsonl': cannot be read, line 2 \(JSONDecodeError"):
        read_starts(tmp_path / STARTS)
