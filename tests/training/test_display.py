"""What a user sees while a run goes, on an emulated terminal and in streams."""

import io
import json
import sys

import pyte
import pytest

from clan.core import output as console
from clan.run.observer import Step, Validation
from clan.training import display as live

NAMES = ("loss_seg", "loss_adv", "loss_adv_aux", "loss_weight", "loss_D_s", "loss_D_t")


def step(iteration, value=0.5, seconds=1.0):
    losses = {name: value * 10.0**-k for k, name in enumerate(NAMES)}
    rates = {"learning_rate": 2.5e-4, "learning_rate_D": 1e-4}
    return Step(iteration, losses, rates, seconds, 4, {"host": 3_210_000_000})


def validation(iteration, score):
    return Validation(iteration, "cityscapes val, 500 images", "mIoU-13", {"mIoU-13": score}, {"road": score})


@pytest.fixture
def time(monkeypatch):
    """Seconds that pass only when told to."""
    now = [0.0]
    for module in (console, live):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    return sleep


class Terminal(io.StringIO):
    """Both streams of a program, as a terminal of some width shows them."""

    def __init__(self, columns):
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, 24, history=1000)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)

    def isatty(self):
        return True

    def write(self, text):
        self._stream.feed(text)
        return len(text)

    @property
    def lines(self):
        return [line.rstrip() for line in self.screen.display if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    def make(columns):
        screen = Terminal(columns)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", "24")
        monkeypatch.setattr("sys.stderr", screen)
        monkeypatch.setattr("sys.stdout", screen)
        return screen

    return make


@pytest.mark.parametrize("columns", [80, 60, 30])
def test_a_terminal_shows_one_bar_and_whole_lines_whatever_is_said_meanwhile(terminal, time, columns):
    screen = terminal(columns)
    best = validation(20, 0.4567)
    with live.open_display("text") as display:
        display.note("computing on cpu")
        display.started(0, 40)
        for iteration in range(40):
            time(1.0)
            display.step(step(iteration))
            if iteration == 9:
                display.note("bad sample 1")
                print("from somewhere else")
                print("to the other stream", file=sys.stderr)
            if iteration == 19:
                display.validating(3, 500)
                display._live.refresh()
                assert any("validating 3/500" in line for line in screen.lines)
                display.validated(best, best)
            display._live.refresh()
            assert sum(line.startswith("training ") for line in screen.lines) == 1
        display.interrupted("SIGINT: finishing")
        display._live.refresh()
        assert "SIGINT: finishing" in screen.lines[-1]
        display.finished("runs/SYS_40.pdparams")
    text = "\n".join(screen.lines)
    for sentence in ("computing on cpu", "bad sample 1", "from somewhere else", "to the other stream", "saved runs/"):
        assert text.count(sentence) == 1
    assert screen.lines[-1] == "saved runs/SYS_40.pdparams"
    for name in ("seg", "adv_aux", "weight", "D_t"):
        assert sum(f" {name} 0.5" in f" {line}" or f" {name} 5e-" in f" {line}" for line in screen.lines) <= 1
    for fact in ("seg 0.5", "D_t 5e-06", "4 img/s", "3.21 GB", "rate 2.50e-04", "best mIoU-13 45.67 after 20"):
        assert text.count(fact) == 1, fact
    bar = next(line for line in screen.lines if line.startswith("training"))
    if columns >= 60:
        assert bar.endswith(" 40/40 100% 0:00:00 left")
        assert len(bar) == columns


def test_sentences_go_into_a_file_where_only_the_bar_is_on_a_terminal(terminal, monkeypatch):
    screen = terminal(80)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    with live.open_display("text") as display:
        display.started(0, 4)
        display.note("said")
        print("printed")
    assert sys.stdout.getvalue() == "said\nprinted\n"
    assert not any("said" in line or "printed" in line for line in screen.lines)


class TestMeter:
    def test_losses_are_an_exponential_average_that_starts_at_once(self, time):
        one = live.Meter(0, 1000)
        values = [1.0, 3.0, float("nan"), 2.0]
        keep = 1 - 2 / (live.SPAN + 1)
        for iteration, value in enumerate(values):
            one.step(step(iteration, value))
        weights = [keep**age for age in (2, 1, 0)]
        expected = sum(weight * value for weight, value in zip(weights, (1, 3, 2), strict=True)) / sum(weights)
        assert one.losses["loss_seg"] == pytest.approx(expected)

    def test_a_slow_first_iteration_spoils_no_estimate(self, time):
        one = live.Meter(0, 100)
        time(60)
        one.step(step(0, seconds=60.0))
        assert one.seconds_left is None
        for iteration in (1, 2):
            time(1)
            one.step(step(iteration))
        assert one.seconds_left == pytest.approx(97)
        assert one.images_per_second == pytest.approx(4)
        time(0.5)
        assert one.seconds_left == pytest.approx(96.5)

    def test_time_between_iterations_counts(self, time):
        """As validation every tenth iteration takes it."""
        one = live.Meter(500, 1000)
        for iteration in range(500, 601):
            time(11 if iteration % 10 == 0 else 1)
            one.step(step(iteration))
        assert one.seconds_left == pytest.approx(399 * 2, rel=0.02)

    def test_at_the_end_nothing_is_left(self, time):
        one = live.Meter(9, 10)
        one.step(step(9))
        assert one.seconds_left == 0


def test_a_log_gets_a_line_now_and_then(time, capsys):
    display = live.Lines()
    display.started(0, 100)
    for iteration in range(100):
        time(1)
        display.step(step(iteration))
    display.finished("SYS_100.pdparams")
    said = capsys.readouterr()
    lines = said.err.splitlines()
    losses = "seg 0.5 adv 0.05 adv_aux 0.005 weight 0.0005 D_s 5e-05 D_t 5e-06"
    assert lines[0] == f"training 5/100, 0:01:35 left, {losses}, 4 img/s, 3.21 GB"
    assert [line.split(",")[0] for line in lines] == [f"training {n}/100" for n in (5, 35, 65, 95, 100)]
    assert lines[-1] == "training 100/100, done in 0:01:40"
    assert said.out == "saved SYS_100.pdparams\n"


def test_a_short_run_writes_no_lines(time, capsys):
    display = live.Lines()
    display.started(0, 2)
    display.step(step(0))
    display.finished("SYS_1.pdparams")
    assert capsys.readouterr().err == ""


def test_json_is_an_object_a_line(time, capsys):
    first, worse = validation(50, 0.5), validation(100, float("nan"))
    with live.open_display("json") as display:
        display.note("computing on cpu")
        display.started(0, 100)
        for iteration in range(100):
            time(1)
            display.step(step(iteration, float("nan") if iteration == 0 else 0.5))
        display.validated(first, first)
        display.validated(worse, first)
        display.saved(100, "SYS_100.pdparams", {})
        display.finished("SYS_100.pdparams")
    events = [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()]
    steps = ["step"] * 5
    assert [one["event"] for one in events] == ["note", "start", *steps, "validation", "validation", "snapshot", "end"]
    found = [one for one in events if one["event"] == "step"]
    assert [one["iteration"] for one in found] == [5, 35, 65, 95, 100]
    assert found[0]["seconds_left"] == pytest.approx(95)
    assert found[0]["losses"]["loss_seg"] == pytest.approx(0.5)
    assert found[0]["memory_bytes"] == {"host": 3_210_000_000}
    assert [(one["best"], one["means"]) for one in events[7:9]] == [
        (True, {"mIoU-13": 0.5}),
        (False, {"mIoU-13": None}),
    ]


def test_quiet_says_where_the_last_snapshot_is(time, capsys):
    with live.open_display("quiet") as display:
        display.note("computing on cpu")
        display.started(0, 1)
        time(100)
        display.step(step(0))
        display.validated(validation(1, 0.5), None)
        display.finished("SYS_1.pdparams")
    assert capsys.readouterr() == ("saved SYS_1.pdparams\n", "")


def test_a_validation_is_a_sentence(capsys):
    display = live.Lines()
    first, second = validation(1000, 0.4567), validation(2000, 0.4)
    display.validated(first, first)
    display.validated(second, first)
    display.validated(validation(3000, float("nan")), None)
    assert capsys.readouterr().out.splitlines() == [
        "validation after 1,000 iterations: mIoU-13 45.67, the best so far",
        "validation after 2,000 iterations: mIoU-13 40.00, best mIoU-13 45.67 after 1,000",
        "validation after 3,000 iterations: mIoU-13 –",
    ]
