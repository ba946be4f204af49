import copy
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from verl_socio.chat import ChatModel
from verl_socio.data import load_samples, validate
from verl_socio.data.write import new_folder
from verl_socio.embedded import qwen2_5_vl
from verl_socio.train import prepare as module
from verl_socio.train.prepare import embedded_city, prepare
from verl_socio.train.run_folder import claim
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
    """A city of a few samples."""
    monkeypatch.setattr(module, "CITY_SAMPLES", 12)


@pytest.mark.usefixtures("small")
def test_embedded_stands_for_a_model_and_a_city_that_can_be_used(config: DictConfig, tmp_path: Path) -> None:
    prepare(config)
    assert config.actor_rollout_ref.model.path == str(qwen2_5_vl.WEIGHTS)
    assert config.data.train_files == config.data.val_files == str(embedded_city(tmp_path))
    assert ChatModel.load(config.actor_rollout_ref.model.path).model_type == "qwen2_5_vl"
    assert validate(config.data.train_files) == []
    for split in (config.data.train_split, config.data.val_split, "test"):
        assert load_samples(config.data.train_files, split)
    (city,) = (tmp_path / ".embedded").iterdir()
    assert city.name.startswith("city_12_0_")


@pytest.mark.usefixtures("small")
def test_what_is_there_is_used_again_until_its_numbers_or_its_generator_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    city = embedded_city(tmp_path)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("verl_socio.city.generate", never)
    assert embedded_city(tmp_path) == city
    with monkeypatch.context() as changed:
        changed.setattr(module, "CITY_SAMPLES", 13)
        with pytest.raises(AssertionError, match="made again"):
            embedded_city(tmp_path)
    monkeypatch.setattr("verl_socio.embedded.made_by.file_hash", lambda path: f"another {path.name}")
    with pytest.raises(AssertionError, match="made again"):
        embedded_city(tmp_path)


@pytest.mark.usefixtures("small")
def test_a_run_that_goes_on_keeps_its_city_under_a_new_generator(config: DictConfig, tmp_path: Path) -> None:
    config.run_dir = str(tmp_path / "mine")

    def begun_with(city: Path) -> DictConfig:
        """The settings after another start, of a run that has learnt from this city."""
        begun = copy.deepcopy(config)
        begun.data.train_files = begun.data.val_files = str(city)
        prepare(begun)
        (tmp_path / "mine" / "metrics").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / "metrics" / "1.jsonl").touch()
        (tmp_path / "mine" / "config.yaml").write_text(OmegaConf.to_yaml(begun))
        again = copy.deepcopy(config)
        prepare(again)
        return again

    before = tmp_path / ".embedded" / "city_12_0"
    before.mkdir(parents=True)
    again = begun_with(before)
    assert again.data.train_files == again.data.val_files == str(before)
    with claim(again):
        pass
    before.rmdir()
    gone = begun_with(before)
    assert gone.data.train_files == gone.data.val_files == str(embedded_city(tmp_path))
    with (
        pytest.raises(ValueError, match=r"other settings .*data\.train_files was '.*city_12_0' and is now"),
        claim(gone),
    ):
        pass
    users_own = begun_with(tmp_path)
    assert users_own.data.train_files == str(embedded_city(tmp_path))


@pytest.mark.usefixtures("small")
def test_a_stop_in_the_middle_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(folder: Path, *_: object, **__: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "half").write_text("written")
        raise OSError("no space left")

    with monkeypatch.context() as interrupted:
        interrupted.setattr(sys.modules["verl_socio.city.generate"], "write_raw_sample", stopped)
        with pytest.raises(OSError, match="no space left"):
            embedded_city(tmp_path)
    assert list((tmp_path / ".embedded").iterdir()) == []
    assert validate(str(embedded_city(tmp_path))) == []


@pytest.mark.usefixtures("small")
def test_of_two_commands_at_once_the_slower_one_takes_what_the_faster_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(folder: Path, **_: object) -> None:
        with new_folder(folder) as draft:
            (draft / "mine").write_text("written")
            folder.mkdir()
            (folder / "the other's").write_text("written")

    monkeypatch.setattr("verl_socio.city.generate", slower)
    city = embedded_city(tmp_path)
    assert list((tmp_path / ".embedded").iterdir()) == [city]
    assert [path.name for path in city.iterdir()] == ["the other's"]


def test_a_model_that_does_not_ship_is_an_error(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qwen2_5_vl, "WEIGHTS", tmp_path / "weights")
    with pytest.raises(ValueError, match=r"^embedded model = .*is missing, but ships with the package\. Fix: "):
        prepare(config)
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_model_and_data_are_left_as_they_are(config: DictConfig, tmp_path: Path) -> None:
    config.actor_rollout_ref.model.path, config.data.train_files, config.data.val_files = "/model", "/train", "/val"
    prepare(config)
    assert config.actor_rollout_ref.model.path == "/model"
    assert (config.data.train_files, config.data.val_files) == ("/train", "/val")
    assert list(tmp_path.iterdir()) == []
