import asyncio
import inspect
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from verl_socio.answer import Grammar, parse
from verl_socio.data import Sample, load_samples
from verl_socio.episode import Reply, Turn
from verl_socio.evaluate import url_host
from verl_socio.evaluate.evaluator import Evaluator
from verl_socio.evaluate.feeding import feed
from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.rows import SampleRow, StageRow, prompts_of
from verl_socio.geometry import Frame
from verl_socio.metrics import MaskScore
from verl_socio.recipes import Recipe
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.train.settings import shipped_recipe


class Scripted:
    """Answers with recorded texts, by sample (told by the question in the prompt) and stage."""

    def __init__(self, texts: Callable[[Turn], str | Exception], pause: float = 0.0) -> None:
        self._texts = texts
        self._pause = pause
        self.turns: list[Turn] = []
        self.under_way = self.most = 0

    async def __call__(self, turn: Turn) -> Reply:
        self.turns.append(turn)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self._pause)
        self.under_way -= 1
        text = self._texts(turn)
        if isinstance(text, Exception):
            raise text
        return Reply(text)


@pytest.fixture(scope="session")
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture(scope="session")
def answer() -> Callable[..., str]:
    """Writes the answer that names the given boxes, each with a point if asked."""

    def write(boxes: list[list[float]], points: bool = False) -> str:
        items = [{"bbox_2d": box} | ({"points": [[box[0] + 1, box[1] + 1]]} if points else {}) for box in boxes]
        return f"<think>hm</think>\n<answer>{json.dumps(items)}</answer>"

    return write


@pytest.fixture(scope="session")
def row_of() -> Callable[[str], SampleRow]:
    """Makes the row of a sample that was answered with the given text."""
    score = MaskScore(0.5, 10, 20, 1, 2, 3)
    grammar = Grammar(points="points", negative_points="negative")

    def make(text: str) -> SampleRow:
        answer = parse(text, grammar)
        stage = StageRow(
            name="localise", text=text, thinking=answer.thinking, status=str(answer.status), reason=answer.reason,
            think_format=answer.think_format, prompts=prompts_of(answer), predicted_iou=(0.5,), score=score, tokens=3,
            cut_off=False, generate_at=0.01, generate_s=0.1, segment_at=0.2, segment_s=0.2,
        )  # fmt: skip
        return SampleRow("a/1", text or "q", "name", (4, 3), 6, 1, score, None, (stage,), 0.5, 1.7e9, 0)

    return make


@pytest.fixture
def recipe() -> Recipe:
    return shipped_recipe("socioreasoner")


@pytest.fixture
def write_samples(tmp_path: Path, write_sample: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a sample of each level given, their targets one rectangle, and gives the data set's folder."""

    def write(levels: list[str]) -> Path:
        for number, level in enumerate(levels):
            place = write_sample(tmp_path / "data", f"sample_{number}", "test")
            (place / "question.json").write_text(json.dumps({"problem": f"Place {number}", "level": level}))
        return tmp_path / "data"

    return write


@pytest.fixture
def evaluate(tmp_path: Path, recipe: Recipe) -> Callable[..., Results]:
    """Runs the evaluator on samples with a scripted model, and gives the results."""

    def run(
        samples: list[Sample],
        host: Scripted,
        segmenter: object = None,
        concurrency: int = 4,
        wanted: int = 0,
        strip_px: int = 0,
        others: tuple[Scripted, ...] = (),
    ) -> Results:
        with Results(tmp_path / "eval", Fingerprint({"test": 1}, {})) as results:
            evaluator = Evaluator(
                recipe=recipe,
                generate=host,
                segmenter=segmenter or BoxSegmenter(),
                frame_of=lambda size_wh: Frame((2.0 * size_wh[0], 2.0 * size_wh[1])),
                center_box_share=0.25,
                pictures=Pictures(tmp_path / "pictures", len(samples), wanted, strip_px),
                others=others,
            )
            asyncio.run(feed(samples, results, [evaluator.evaluate], concurrency, lambda row: None))
        return results

    return run


@pytest.fixture
def samples(write_samples: Callable[..., Path]) -> list[Sample]:
    return load_samples(str(write_samples(["name", "class", "class", "function"])), "test")


class Server:
    """A server in a thread of its own; `answer` makes each response of its chat, at once or awaited."""

    def __init__(self, answer):
        self.model = "m"
        self.requests = []
        self.answer = answer
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(20)

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)
        application = web.Application(client_max_size=2**26)
        application.router.add_get("/v1/models", self._models)
        application.router.add_post("/v1/chat/completions", self._chat)
        self.runner = web.AppRunner(application)
        self.loop.run_until_complete(self.runner.setup())
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        self.loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        self.loop.run_forever()

    async def _models(self, request):
        return web.json_response(
            {"object": "list", "data": [{"id": self.model, "object": "model", "created": 1, "owned_by": "x"}]}
        )

    async def _chat(self, request):
        self.requests.append(await request.json())
        answer = self.answer(self, request)
        return await answer if inspect.isawaitable(answer) else answer

    def close(self):
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(url_host, "_RETRIES", 0)
    started = []

    def start(answer):
        started.append(Server(answer))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture(scope="session")
def completion():
    """Writes what such a server answers."""

    def write(text):
        choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}

    return write
