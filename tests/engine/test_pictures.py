import asyncio
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from verl_socio.data import load_samples
from verl_socio.engine.group import Group, Host
from verl_socio.engine.pictures import write_group_picture
from verl_socio.episode import Reply, Scene, Turn, run_episode
from verl_socio.geometry import Frame
from verl_socio.recipes import Recipe
from verl_socio.segment.box_segmenter import BoxSegmenter

SHIPPED = Path(__file__).parents[2] / "configs" / "recipe" / "socioreasoner.yaml"
EXACT = '<think></think><answer>[{"bbox_2d": [5, 10, 25, 30], "points": [[7, 12], [20, 25]]}]</answer>'


def group_of(data: Path, chat, *texts: str) -> Group:
    recipe = Recipe.from_config(OmegaConf.to_container(OmegaConf.load(SHIPPED), resolve=True))
    segmenter = BoxSegmenter()
    group = Group(Host(recipe, chat, segmenter), size=len(texts))
    scene = Scene.load(load_samples(str(data), "train")[0], with_target=True)
    for text in texts:

        async def generate(turn: Turn, text: str = text) -> Reply:
            return Reply(text)

        episode = run_episode(scene, recipe, generate=generate, segmenter=segmenter, frame_of=Frame.of_image)
        group.episodes.append(asyncio.run(episode))
    return group


def test_a_row_of_tiles_an_episode(tiny_data: Path, tiny_chat, tmp_path: Path) -> None:
    one = write_group_picture(group_of(tiny_data, tiny_chat, EXACT), tmp_path, 1)
    three = write_group_picture(group_of(tiny_data, tiny_chat, EXACT, "nothing readable", EXACT), tmp_path, 2)
    assert (one, three) == (tmp_path / "step_1.png", tmp_path / "step_2.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_1.png", "step_2.png"]
    small, large = Image.open(one), Image.open(three)
    assert large.width == small.width
    assert large.height > 2 * small.height
    # Seven tiles: two that stage 1 sees, its answer, two that stage 2 sees, its answer, and the target.
    assert small.width >= 7 * 64
    pixels = np.asarray(large)
    third = len(pixels) // 3
    assert not np.array_equal(pixels[:third], pixels[third : 2 * third]), "the second episode answered something else"


def test_the_first_group_of_a_step_is_the_one_that_is_shown(tiny_data: Path, tiny_chat, tmp_path: Path) -> None:
    path = write_group_picture(group_of(tiny_data, tiny_chat, EXACT), tmp_path, 5)
    before = path.read_bytes()
    assert write_group_picture(group_of(tiny_data, tiny_chat, "other", "other"), tmp_path, 5) == path
    assert path.read_bytes() == before


def test_a_group_in_which_every_episode_failed_shows_nothing(tiny_data: Path, tiny_chat, tmp_path: Path) -> None:
    assert not write_group_picture(group_of(tiny_data, tiny_chat), tmp_path / "pictures", 1).exists()
