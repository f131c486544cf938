import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.needs import module

module("fastapi", "serve")
module("uvicorn", "serve")


@dataclass
class Served:
    """A running `clan serve`."""

    process: subprocess.Popen
    address: str

    @property
    def place(self):
        host, port = self.address.removeprefix("http://").split(":")
        return host, int(port)

    def ask(self, body=None, path="/predict", **headers):
        """Status, headers and body of an answer."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "image/png", **names})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def send(self, raw, wait=30.0):
        """What comes back for raw bytes."""
        with socket.create_connection(self.place, timeout=wait) as line:
            with contextlib.suppress(ConnectionError):
                line.sendall(raw)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while piece := line.recv(65536):
                    answer += piece
        return answer

    def memory(self):
        """Largest memory so far, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])

    def end(self, number):
        """The exit code, and what was printed, after a signal."""
        self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=60)
        return self.process.returncode, out, errors


def require_clean_end(code, out, errors):
    """What `Served.end` gives."""
    assert (code, errors) == (0, "")
    assert out.endswith("ended\n")


@contextlib.contextmanager
def running(*arguments, python=sys.executable, program=("-m", "clan")):
    command = [python, *program, "serve", *map(str, arguments), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            lines = iter(process.stdout.readline, "")
            address = next((line.split()[0] for line in lines if line.startswith("http://")), None)
            assert address, process.stderr.read()
            yield Served(process, address)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def network(worlds, tmp_path_factory):
    """Weights of a run of a step, with their `config.yaml`."""
    from clan.training.run import train
    from tests.conftest import tiny_config

    return train(tiny_config(worlds, tmp_path_factory.mktemp("run"), num_steps=1, warmup_steps=0, save_every=1))


@pytest.fixture(scope="session")
def served(network):
    with running(network, "--max-megabytes", 2) as found:
        yield found
        require_clean_end(*found.end(signal.SIGINT))
