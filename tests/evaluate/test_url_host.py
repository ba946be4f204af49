"""A server over a real network: a small one for what goes wrong, vLLM's own for what goes right."""

import asyncio
import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import openai
import pytest
import torch
from aiohttp import web
from PIL import Image

from verl_socio.episode import Turn
from verl_socio.evaluate import url_host
from verl_socio.evaluate.launch import launch
from verl_socio.evaluate.url_host import UrlHost
from verl_socio.evaluate.vllm_host import Limits, Sampling

LENGTH = 12
LIMITS = Limits(max_prompt_length=200, max_response_length=LENGTH, images=2)


def turn(question="Where is the zoo?"):
    pixels = np.random.default_rng(5).integers(0, 255, (2, 140, 140, 3), dtype=np.uint8)
    return Turn(0, tuple(Image.fromarray(each) for each in pixels), question)


def hosted(url, chat):
    """A connection that is first used in the event loop of the evaluation."""
    return UrlHost(openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0), "m", chat, Sampling(), LIMITS)


def ask(url, chat, question="q", **sampling):
    async def run():
        host = await UrlHost.connect(url, None, chat, Sampling(**sampling), LIMITS)
        try:
            return await host(turn(question))
        finally:
            await host.close()

    return asyncio.run(run())


def test_the_server_gets_images_then_text_and_what_is_set(server, tiny_chat, completion):
    running = server(lambda *_: web.json_response(completion("<answer>[]</answer>")))
    reply = ask(running.url, tiny_chat, temperature=0.5, top_k=3, seed=1)
    assert reply.text == "<answer>[]</answer>"
    assert (reply.record.tokens, reply.record.cut_off) == (7, True)
    [request] = running.requests
    assert (request["model"], request["max_tokens"], request["temperature"], request["top_k"]) == ("m", LENGTH, 0.5, 3)
    [message] = request["messages"]
    *images, text = message["content"]
    assert text == {"type": "text", "text": "q"}
    for sent, given in zip(images, turn().images, strict=True):
        _, _, encoded = sent["image_url"]["url"].partition("base64,")
        assert Image.open(io.BytesIO(base64.b64decode(encoded))).tobytes() == given.tobytes()
    ask(running.url, tiny_chat)
    assert "seed" not in running.requests[1]
    # Else vLLM's server would take the model's own.
    neutral = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert {key: running.requests[1][key] for key in neutral} == neutral
    ask(running.url, tiny_chat, temperature=0.5, seed=2)
    assert running.requests[2]["seed"] != request["seed"]


def test_a_server_that_dies_in_the_middle_stops_and_what_is_finished_is_kept(
    samples, evaluate, server, tiny_chat, answer, completion
):
    def dying(running, request):
        if len(running.requests) > 5:
            request.transport.close()
        return web.json_response(completion(answer([[1, 1, 9, 9]])))

    running = server(dying)
    with pytest.raises(RuntimeError, match=r"host = 'http://127.*Finished samples are kept. Fix: start"):
        evaluate(samples, hosted(running.url, tiny_chat), concurrency=1)
    healthy = server(lambda *_: web.json_response(completion(answer([[1, 1, 9, 9]]))))
    results = evaluate(samples, hosted(healthy.url, tiny_chat), concurrency=1)
    assert [row.id for row in results.rows()] == [sample.id for sample in samples]
    assert len(healthy.requests) == 2 * 2, "two samples were finished before"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_question_that_is_refused_is_that_sample_s_failure(
    samples, evaluate, server, tiny_chat, answer, completion, status
):
    def refusing(running, request):
        if "Place 1" in running.requests[-1]["messages"][0]["content"][-1]["text"]:
            return web.json_response({"error": {"message": "the prompt is too long"}}, status=status)
        return web.json_response(completion(answer([[1, 1, 9, 9]])))

    rows = {row.id: row for row in evaluate(samples, hosted(server(refusing).url, tiny_chat), concurrency=1).rows()}
    assert "the prompt is too long" in rows["sample_1"].failure
    assert [row.failure for row in rows.values()].count(None) == 3


@pytest.mark.parametrize(
    "answer_with",
    [
        lambda *_: web.Response(status=500),
        lambda *_: web.Response(status=401),
        lambda *_: web.Response(text="<html>", content_type="text/html"),
        lambda *_: web.json_response({"choices": []}),
        lambda *_: web.Response(text="{", content_type="application/json"),
    ],
)
def test_what_is_no_chat_completion_stops_with_the_server_s_name(server, tiny_chat, answer_with):
    with pytest.raises(RuntimeError, match=r"host = 'http://127.*Fix:"):
        ask(server(answer_with).url, tiny_chat)


def test_an_answer_without_a_text_is_a_failure_and_no_empty_answer(server, tiny_chat, completion):
    with pytest.raises(ValueError, match=r"answered without a text \(finish_reason length\).*Fix:"):
        ask(server(lambda *_: web.json_response(completion(None))).url, tiny_chat)


def test_a_model_that_is_not_served_is_told_with_those_that_are(server, tiny_chat):
    url = server(lambda *_: None).url
    with pytest.raises(ValueError, match=r"served_model = 'other'.*which has m. Fix:"):
        asyncio.run(UrlHost.connect(url, "other", tiny_chat, Sampling(), LIMITS))


def test_nobody_at_the_address_is_told(tiny_chat, monkeypatch):
    monkeypatch.setattr(url_host, "_RETRIES", 0)
    with pytest.raises(RuntimeError, match=r"host = 'http://127.0.0.1:1/v1/'.*Fix: start the server"):
        asyncio.run(UrlHost.connect("http://127.0.0.1:1/v1", None, tiny_chat, Sampling(), LIMITS))


def test_what_is_no_address_is_told_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match=r"host = 'localhost:8000'.*Fix: write host=http"):
        launch([f"output_root={tmp_path}", "model=some/model", "host='localhost:8000'"], dry_run=False)


@pytest.fixture(scope="module")
def vllm_server(tiny_model, tmp_path_factory):
    """vLLM's own server with the embedded model's random weights; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = (
        "import sys, runpy; from verl_socio.evaluate.vllm_host import prepare_environment; prepare_environment();"
        "from verl_socio.torchvision_cpu import make_importable; make_importable();"
        "runpy.run_module('vllm.entrypoints.openai.api_server', run_name='__main__', alter_sys=True)"
    )
    words = [
        sys.executable, "-c", program, "--model", str(tiny_model), "--served-model-name", "tiny", "--port", str(port),
        "--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager",
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, log.read_text()[-4000:]
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        yield f"{url}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_greedy_answers_of_vllm_s_server_are_those_of_transformers(vllm_server, tiny_model, tiny_chat):
    from transformers import AutoModelForImageTextToText

    reply = ask(vllm_server, tiny_chat, "Where is the zoo?")
    encoded = tiny_chat.encode(turn())
    model = AutoModelForImageTextToText.from_pretrained(tiny_model, dtype=torch.float32).eval()
    ids = torch.tensor([encoded.prompt_ids])
    settings = {"do_sample": False, "max_new_tokens": LENGTH, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        written = model.generate(input_ids=ids, **settings, **encoded.features)
    assert reply.text == tiny_chat.decode(written[0, ids.shape[1] :].tolist())
    assert (reply.record.tokens, reply.record.cut_off) == (LENGTH, True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_verb_evaluates_through_a_server(vllm_server, tiny_model, tiny_data, tmp_path, capsys):
    words = [
        f"model={tiny_model}", f"data={tiny_data}", f"output_root={tmp_path}", f"host={vllm_server}", "name=served",
        "max_response_length=8", "segmenter.weights=boxes",
    ]  # fmt: skip
    launch(words, dry_run=False)
    folder = tmp_path / tiny_model.name / "eval" / "served"
    assert len((folder / "results.jsonl").read_text().splitlines()) == 2
    assert (folder / "report.html").is_file() and not (folder / "vllm.log").exists()
    assert "Starting vLLM" not in capsys.readouterr().out
