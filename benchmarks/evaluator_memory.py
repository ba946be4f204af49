"""Whether the evaluator's memory grows with the number of samples: the peak of two sizes of a set.

    python benchmarks/evaluator_memory.py [--sizes 200 2000] [--cheap]

Each size is one whole run of `verl-socio evaluate` with the embedded models on generated places, its report included.
With --cheap the answers come from a server that says the same to everything, and masks are boxes: minutes instead of
hours on a busy machine, and still all of the evaluator's own memory.
The places repeat after 120, but each has files and an id of its own name, so that nothing is remembered of one for
another. Memory is what the command and all processes that it starts hold in RAM together, looked at all 0.2 s.
Run it in the project's environment: source training_scripts/setup.sh
"""

import argparse
import json
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
from rich.console import Console

from verl_socio.train.prepare import embedded_city
from verl_socio.train.settings import ROOT


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 2000], help="samples of each run")
    parser.add_argument("--cheap", action="store_true", help="without models")
    return parser.parse_args()


def places(folder: Path, count: int) -> Path:
    """A data set of `count` test samples, each a link to one of the embedded city's."""
    known = sorted(path for path in (embedded_city(ROOT / "outputs") / "test").iterdir() if path.is_dir())
    (folder / "test").mkdir(parents=True)
    for number in range(count):
        (folder / "test" / f"place_{number:05d}").symlink_to(known[number % len(known)])
    return folder


def held(process: psutil.Process) -> int:
    """Bytes in RAM of a process and all that it has started; a page that several share counts in each."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


class Parrot(BaseHTTPRequestHandler):
    """A server that gives the same answer to every question."""

    def do_GET(self) -> None:
        """The models that there are."""
        self._say({"object": "list", "data": [{"id": "parrot", "object": "model", "created": 0, "owned_by": "us"}]})

    def do_POST(self) -> None:
        """An answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        text = '<think>Here.</think><answer>[{"bbox_2d": [20, 20, 90, 80], "points": [[40, 40]]}]</answer>'
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        self._say({"id": "0", "object": "chat.completion", "created": 0, "model": "parrot", "choices": [choice]})

    def _say(self, values: dict[str, object]) -> None:
        body = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: there are thousands."""


def measure(count: int, more: list[str], work: Path) -> tuple[int, float]:
    """Peak bytes and seconds of an evaluation of `count` samples."""
    data = places(work / f"data_{count}", count)
    words = ["verl-socio", "evaluate", "model=embedded", f"data={data}", f"output_root={work / 'out'}", *more]
    peak, started = 0, time.perf_counter()
    with (work / f"{count}.log").open("w") as log:
        process = psutil.Popen(words, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, held(process))
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit((work / f"{count}.log").read_text())
    return peak, time.perf_counter() - started


def main() -> None:
    """Print the peaks and the largest over the smallest."""
    options, console = arguments(), Console()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Parrot)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cheap = [f"host=http://127.0.0.1:{server.server_port}/v1", "segmenter.weights=boxes"]
    peaks = []
    with tempfile.TemporaryDirectory() as work:
        for count in options.sizes:
            peak, seconds = measure(count, cheap if options.cheap else [], Path(work))
            console.print(f"{count} samples: peak {peak / 2**20:.0f} MiB, {seconds:.0f} s")
            peaks.append(peak)
    console.print(f"largest over smallest: {max(peaks) / min(peaks):.3f}")


if __name__ == "__main__":
    main()
