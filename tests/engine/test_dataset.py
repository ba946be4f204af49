from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_socio.data import load_samples
from verl_socio.data.sample import Sample
from verl_socio.engine.dataset import SampleDataset, with_split
from verl_socio.engine.group import AGENT_NAME


def ids(dataset: SampleDataset) -> list[str]:
    return [Sample.from_row(dataset[index]["sample"]).id for index in range(len(dataset))]


def test_training_and_validation_are_two_splits_of_one_source(tiny_data: Path) -> None:
    # As verl makes them: the same class, the same section of the settings, and only the files differ.
    data = OmegaConf.create({"train_files": [with_split(str(tiny_data), "train")], "train_max_samples": -1})
    data.val_files = [with_split(str(tiny_data), "val")]
    assert ids(SampleDataset(data.train_files, config=data)) == [f"train_{index}" for index in range(8)]
    assert ids(SampleDataset(data.val_files, config=data)) == ["val_0", "val_1"]


def test_a_row_is_strings_that_give_the_sample_back(tiny_data: Path) -> None:
    dataset = SampleDataset(with_split(str(tiny_data), "train"))
    row = dataset[3]
    sample = load_samples(str(tiny_data), "train")[3]
    assert Sample.from_row(row["sample"]) == sample
    assert all(isinstance(value, str | None) for value in row["sample"].values())
    assert row["raw_prompt"] == [{"role": "user", "content": "Zoo"}]
    assert (row["agent_name"], row["data_source"], row["index"]) == (AGENT_NAME, "train", 3)


@pytest.mark.parametrize(("most", "count"), [(-1, 8), (0, 0), (3, 3), (100, 8)])
def test_the_first_so_many_are_kept(tiny_data: Path, most: int, count: int) -> None:
    assert len(SampleDataset(with_split(str(tiny_data), "train"), max_samples=most)) == count


def test_several_sources_follow_each_other(tiny_data: Path) -> None:
    names = [with_split(str(tiny_data), "test"), with_split(str(tiny_data), "val")]
    assert ids(SampleDataset(names)) == ["test_0", "test_1", "val_0", "val_1"]


def test_a_path_is_named_for_processes_that_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a#b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert with_split("a#b", "val") == f"{tmp_path}/a#b#val"
    assert with_split("owner/dataset", "val") == "owner/dataset#val", "a Hub id stays one"


def test_a_sign_in_a_folders_name_is_not_the_splits(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "a#b").symlink_to(tiny_data)
    assert ids(SampleDataset(f"{tmp_path}/a#b#val")) == ["val_0", "val_1"]
