"""`clan train` as a process on a terminal, which is emulated."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pyte
import pytest

from clan.run.config import to_yaml


def on_terminal(columns, *command):
    """What stands on a terminal when a command has ended, with what has scrolled off, and its exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    process = subprocess.Popen(command, env=environment | {"TERM": "xterm"}, **streams)
    os.close(slave)
    screen = pyte.HistoryScreen(columns, 24, history=1000)
    stream = pyte.ByteStream(screen)
    while True:
        try:
            output = os.read(master, 65536)
        except OSError:  # Linux's way of saying that nobody writes any more
            break
        if not output:
            break
        stream.feed(output)
    os.close(master)
    scrolled = ["".join(line[column].data for column in range(columns)) for line in screen.history.top]
    return [line.rstrip() for line in [*scrolled, *screen.display] if line.strip()], process.wait()


@pytest.mark.parametrize("columns", [80, 60])
def test_a_terminal_is_left_with_sentences_and_one_bar(tiny, tmp_path, columns):
    config = tiny(num_steps=6, validate_every=2, num_workers=2)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    program = [sys.executable, "-c", "from clan.cli.main import main; main()"]
    lines, code = on_terminal(columns, *program, "train", "--config", str(path))
    text = "\n".join(lines)
    assert code == 0, text
    assert [line for line in lines if line.startswith("training ")] == [line for line in lines if " 6/6 100% " in line]
    assert text.count(" 6/6 100% 0:00:00 left") == 1
    for sentence in ("computing on cpu", "validation after 2 iterations: mIoU-13 ", "validation after 6 iterations: "):
        assert text.count(sentence) == 1, text
    for name in ("seg", "adv", "weight", "D_s", "D_t"):
        assert sum(f" {name} " in f" {line}" for line in lines if " iterations" not in line) == 1, text
    assert "".join(lines).endswith(f"saved {config.snapshot_dir}/SYS_6.pdparams")
