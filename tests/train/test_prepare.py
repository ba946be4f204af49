import copy
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from verl_socio.chat import ChatModel
from verl_socio.data import load_samples, validate
from verl_socio.data.write import new_folder
from verl_socio.train import prepare as module
from verl_socio.train.prepare import embedded_city, embedded_model, prepare
from verl_socio.train.settings import resolve


@pytest.fixture(scope="module")
def plain() -> DictConfig:
    return resolve("embedded", ["run=mine"])


@pytest.fixture
def config(plain: DictConfig, tmp_path: Path) -> DictConfig:
    config = copy.deepcopy(plain)
    config.output_root = str(tmp_path)
    return config


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A city of a few samples, and no model that ships."""
    monkeypatch.setattr(module, "CITY_SAMPLES", 12)
    monkeypatch.setattr("verl_socio.embedded.qwen2_5_vl.shipped", lambda: None)


@pytest.mark.usefixtures("small")
def test_embedded_stands_for_a_model_and_a_city_that_can_be_used(config: DictConfig, tmp_path: Path) -> None:
    prepare(config)
    assert config.actor_rollout_ref.model.path == str(tmp_path / ".embedded" / "qwen2_5_vl")
    assert config.data.train_files == config.data.val_files == str(tmp_path / ".embedded" / "city_12_0")
    assert ChatModel.load(config.actor_rollout_ref.model.path).model_type == "qwen2_5_vl"
    assert validate(config.data.train_files) == []
    for split in (config.data.train_split, config.data.val_split, "test"):
        assert load_samples(config.data.train_files, split)
    assert sorted(path.name for path in (tmp_path / ".embedded").iterdir()) == ["city_12_0", "qwen2_5_vl"]


@pytest.mark.usefixtures("small")
def test_what_is_there_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    city, model = embedded_city(tmp_path), embedded_model(tmp_path)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("verl_socio.city.generate", never)
    monkeypatch.setattr("verl_socio.embedded.qwen2_5_vl.build", never)
    assert embedded_city(tmp_path) == city
    monkeypatch.setattr(module, "CITY_SAMPLES", 13)
    with pytest.raises(AssertionError, match="made again"):
        embedded_city(tmp_path)
    assert embedded_model(tmp_path) == model


@pytest.mark.usefixtures("small")
def test_a_stop_in_the_middle_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(folder: Path, *_: object, **__: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "half").write_text("written")
        raise OSError("no space left")

    with monkeypatch.context() as interrupted:
        interrupted.setattr(sys.modules["verl_socio.city.generate"], "write_raw_sample", stopped)
        interrupted.setattr("verl_socio.embedded.qwen2_5_vl.build", stopped)
        for make in (embedded_city, embedded_model):
            with pytest.raises(OSError, match="no space left"):
                make(tmp_path)
    assert list((tmp_path / ".embedded").iterdir()) == []
    assert validate(str(embedded_city(tmp_path))) == []


@pytest.mark.usefixtures("small")
def test_of_two_commands_at_once_the_slower_one_takes_what_the_faster_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(folder: Path, **_: object) -> None:
        with new_folder(folder) as draft:
            (draft / "mine").write_text("written")
            (tmp_path / ".embedded" / "city_12_0").mkdir()
            (tmp_path / ".embedded" / "city_12_0" / "the other's").write_text("written")

    monkeypatch.setattr("verl_socio.city.generate", slower)
    city = embedded_city(tmp_path)
    assert list((tmp_path / ".embedded").iterdir()) == [city]
    assert [path.name for path in city.iterdir()] == ["the other's"]


def test_the_shipped_model_is_read_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "package" / "weights"
    monkeypatch.setattr("verl_socio.embedded.qwen2_5_vl.shipped", lambda: shipped)
    assert embedded_model(tmp_path / "outputs") == shipped
    assert not (tmp_path / "outputs").exists()


def test_a_users_own_model_and_data_are_left_as_they_are(config: DictConfig, tmp_path: Path) -> None:
    config.actor_rollout_ref.model.path, config.data.train_files, config.data.val_files = "/model", "/train", "/val"
    prepare(config)
    assert config.actor_rollout_ref.model.path == "/model"
    assert (config.data.train_files, config.data.val_files) == ("/train", "/val")
    assert list(tmp_path.iterdir()) == []
