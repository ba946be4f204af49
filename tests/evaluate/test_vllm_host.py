"""The real vLLM with the embedded model's random weights."""

import asyncio
import hashlib
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from verl_socio.episode import Turn
from verl_socio.evaluate.vllm_host import Limits, Sampling, VllmHost, _output_to, _shared_cores, seed_of

LENGTH = 24


def turn(*, swapped=False, question="Where is the zoo?", size_wh=(140, 140)):
    pixels = np.random.default_rng(5).integers(0, 255, (2, size_wh[1], size_wh[0], 3), dtype=np.uint8)
    images = tuple(Image.fromarray(values) for values in (pixels[::-1] if swapped else pixels))
    return Turn(0, images, question)


def greedy(model, chat, asked):
    """The same answer from transformers, token by token."""
    encoded = chat.encode(asked)
    ids = torch.tensor([encoded.prompt_ids])
    with torch.no_grad():
        settings = {"do_sample": False, "max_new_tokens": LENGTH, "attention_mask": torch.ones_like(ids)}
        written = model.generate(input_ids=ids, **settings, **encoded.features)
    return chat.decode(written[0, ids.shape[1] :].tolist())


@pytest.fixture(scope="module")
def seen(tiny_model, tiny_chat, tmp_path_factory):
    """What one engine answers to all that is asked below."""
    log = tmp_path_factory.mktemp("log") / "vllm.log"
    limits = Limits(max_prompt_length=200, max_response_length=LENGTH, images=2)

    async def ask():
        host = VllmHost.start(tiny_model, tiny_chat, Sampling(), limits, log)
        sampled, other = (host.answering(tiny_chat, Sampling(1.0, seed=seed), limits) for seed in (1, 2))
        try:
            alone = await sampled(turn())
            beside = await asyncio.gather(
                other(turn()), *(sampled(turn(question=f"Place {n}")) for n in range(64)), sampled(turn())
            )
            asked = [turn(), turn(swapped=True), turn(size_wh=(280, 280)), turn(question="Where is <|image_pad|>?")]
            answers = await asyncio.gather(*map(host, asked), return_exceptions=True)
        finally:
            host.close()
        names = ("greedy", "swapped", "too_long", "placeholder")
        return SimpleNamespace(**dict(zip(names, answers, strict=True)), alone=alone, beside=beside, log=log)

    return asyncio.run(ask())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_greedy_answers_are_those_of_transformers_on_the_same_images_in_the_same_order(seen, tiny_model, tiny_chat):
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tiny_model, dtype=torch.float32).eval()
    assert seen.greedy.text == greedy(model, tiny_chat, turn())
    assert seen.swapped.text == greedy(model, tiny_chat, turn(swapped=True))
    assert seen.greedy.text != seen.swapped.text, "the images must tell, or the two lines above show nothing"
    assert seen.greedy.record.tokens == LENGTH and seen.greedy.record.cut_off


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_full_batch_of_sampled_answers_differs_and_on_a_gpu_depends_on_the_seed_alone(seen):
    other, *_, again = seen.beside
    assert len({reply.text for reply in seen.beside}) > 60
    if torch.cuda.is_available():
        assert seen.alone.text == again.text != other.text


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_prompt_that_is_too_long_or_holds_a_placeholder_is_a_value_error(seen):
    assert isinstance(seen.too_long, ValueError) and "max_prompt_length = 200" in str(seen.too_long)
    assert isinstance(seen.placeholder, ValueError) and "<|image_pad|>" in str(seen.placeholder)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_vllm_s_own_words_are_in_the_log(seen):
    assert b"EngineCore" in seen.log.read_bytes()


@pytest.mark.parametrize(
    ("name", "values", "wrong"),
    [
        ("temperature", (0, 0.7, 2), (-0.1, 2.1, math.nan, "hot", None, True)),
        ("top_p", (0.1, 1), (0, 1.1, math.nan, "all", True)),
        ("top_k", (-1, 1, 50), (0, -2, 2.0, "all", True)),
        ("seed", (0, 2**32 - 1), (-1, 2**32, 1.0, None, False)),
    ],
)
def test_how_answers_are_drawn_has_ranges(name, values, wrong):
    for value in values:
        assert getattr(Sampling(**{name: value}), name) == value
    for value in wrong:
        with pytest.raises(ValueError, match=rf"^sampling\.{name} = .*: must be .*Fix: use "):
            Sampling(**{name: value})


@pytest.mark.parametrize(
    ("failure", "kind", "told"),
    [
        (VLLMValidationError("too many tokens"), ValueError, r"^prompt of stage 1 = .*too many tokens.*Fix: "),
        (EngineDeadError(), RuntimeError, r"^vLLM failed \(EngineDeadError: .*its log: /runs/vllm\.log"),
        (EngineGenerateError(), RuntimeError, r"^vLLM failed \(OSError: broken pipe\); its log: /runs/vllm\.log"),
    ],
)
def test_a_prompt_that_vllm_refuses_is_one_sample_s_failure_and_a_dead_engine_all_of_them(
    tiny_chat, failure, kind, told
):
    class Failing:
        async def generate(self, *_, request_id):
            raise failure from (OSError("broken pipe") if isinstance(failure, EngineGenerateError) else None)
            yield

    limits = Limits(max_prompt_length=200, max_response_length=LENGTH, images=2)
    host = VllmHost(Failing(), tiny_chat, Sampling(), limits, Path("/runs/vllm.log"))
    with pytest.raises(kind, match=told):
        asyncio.run(host(turn()))


def test_output_goes_to_the_file_and_back(tmp_path, capfd):
    log = tmp_path / "log"
    os.write(1, b"before ")
    with pytest.raises(OSError), _output_to(log):
        os.write(1, b"out ")
        os.write(2, b"err ")
        raise OSError
    os.write(1, b"after")
    assert log.read_bytes() == b"out err "
    assert capfd.readouterr().out == "before after"


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the cores are free")
@pytest.mark.parametrize(("cores", "engine", "here"), [(1, "1", 1), (2, "1", 1), (5, "3", 2), (16, "8", 8)])
def test_the_engine_and_this_process_share_the_cores(monkeypatch, threads, cores, engine, here):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    with _shared_cores():
        assert os.environ["OMP_NUM_THREADS"] == engine
    assert "OMP_NUM_THREADS" not in os.environ
    assert torch.get_num_threads() == here


def test_a_user_s_number_of_threads_stays(monkeypatch, threads):
    torch.set_num_threads(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with _shared_cores():
        assert os.environ["OMP_NUM_THREADS"] == "7"
    assert torch.get_num_threads() == 3


def test_each_prompt_has_a_seed_of_its_own():
    def seed(question, base=0):
        return seed_of(Sampling(seed=base), turn(question=question))

    assert seed("a") == int.from_bytes(hashlib.sha256(b"0 0 a").digest()[:4], "little")
    assert len({seed("a"), seed("b"), seed("a", 1), seed("\ud800")}) == 4
