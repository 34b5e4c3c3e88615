"""The interpreter's end, forks, copies and pickles while recognition is used."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import speak

from lwasr_edge import ModelNotFoundError, OptionError, PhraseList, Recognizer, StreamError
from lwasr_edge.model import Model
from lwasr_edge.recognizer import Transcript

SPOKEN = ("\u2581two", 0.1, "\u2581one")

DAEMON = """
import sys, threading, time
import numpy as np
from lwasr_edge import Recognizer

samples = np.random.default_rng(0).normal(0, 0.1, 600_000).astype(np.float32)
started = threading.Event()

def recognise():
    recognizer = Recognizer(sys.argv[1], threads=int(sys.argv[3]))
    while True:
        if sys.argv[2] == "open":
            Recognizer(sys.argv[1])
        elif sys.argv[2] == "file":
            recognizer.transcribe(samples, 16_000)
        elif sys.argv[2] == "resampled":
            recognizer.transcribe(samples, 48_000)
        else:
            stream = recognizer.stream()
            for start in range(0, len(samples), 1600):
                stream.accept(samples[start : start + 1600])
        started.set()

for _ in range(3):
    threading.Thread(target=recognise, daemon=True).start()
started.wait()
time.sleep(float(sys.argv[4]))
sys.exit(7)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mode", ["open", "file", "resampled", "stream"])
def test_the_interpreter_ends_while_daemon_threads_recognise(model_path: Path, mode: str, threads: int) -> None:
    for delay_s in ("0.01", "0.037"):
        command = [sys.executable, "-c", DAEMON, str(model_path), mode, str(threads), delay_s]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stdout) == (7, "")
        assert "terminate called" not in ended.stderr and "Traceback" not in ended.stderr


def test_exit_handlers_still_recognise(model_path: Path) -> None:
    code = f"""
import atexit, numpy as np
made = []
atexit.register(lambda: print(repr(made[0].transcribe(np.zeros(16_000, np.float32), 16_000).text)))
from lwasr_edge import Recognizer
made.append(Recognizer({str(model_path)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "''\n"


@pytest.mark.parametrize("options", [{}, {"phrases": ["two one", "three"]}, {"beam": 4}, {"threads": 2}])
def test_pickles_and_copies_recognise_the_same(model_path: Path, options: dict[str, Any]) -> None:
    recognizer = Recognizer(model_path, hop_ms=320, **options)
    expected = recognizer.transcribe(speak(*SPOKEN), 16_000)
    assert expected.text == "two one"
    data = pickle.dumps(recognizer)
    assert len(data) < 50_000  # the model is opened again, not stored
    for other in (pickle.loads(data), copy.copy(recognizer), copy.deepcopy(recognizer)):
        assert other.transcribe(speak(*SPOKEN), 16_000) == expected
        assert other.stream().hop_ms == 320
        assert other.info == recognizer.info
    assert copy.deepcopy(recognizer)._model is recognizer._model


def test_a_relative_path_is_pickled_as_an_absolute_one(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_path.parent)
    data = pickle.dumps(Model(model_path.name, pinned_samples=10_240))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(data)._pinned_samples == 10_240


def test_a_pickle_without_its_model(model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "moved.onnx"
    path.write_bytes(model_path.read_bytes())
    data = pickle.dumps(Recognizer(path))
    path.unlink()
    with pytest.raises(ModelNotFoundError, match=r"moved\.onnx, which does not exist"):
        pickle.loads(data)


def test_results_and_options_are_pickled(recognizer: Recognizer) -> None:
    stream = recognizer.with_decoding(phrases=["two one"]).stream()
    events = [*stream.accept(speak(*SPOKEN)), *stream.flush()]
    assert len(events) > 1
    assert [event.text for event in pickle.loads(pickle.dumps(events))] == [event.text for event in events]
    for value in (PhraseList({"one": 2.0}, "bias"), recognizer.info, OptionError("x must be y, got z")):
        assert repr(pickle.loads(pickle.dumps(value))) == repr(value)


def test_a_stream_says_that_it_cannot_be_copied(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    for make in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(StreamError, match=r"pass the Recognizer instead and call its stream\(\) there"):
            make(stream)


def recognise_in_child(recognizer: Recognizer, samples: np.ndarray, results: Any) -> None:
    results.put(recognizer.transcribe(samples, 16_000))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_recognizer_is_passed_to_a_process(model_path: Path, method: str, threads: int) -> None:
    recognizer = Recognizer(model_path, threads=threads)
    expected = recognizer.transcribe(speak(*SPOKEN), 16_000)
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    child = context.Process(target=recognise_in_child, args=(recognizer, speak(*SPOKEN), results))
    child.start()
    try:
        child.join(60)
        assert child.exitcode == 0
        found: Transcript = results.get()
    finally:
        child.kill()
    assert found == expected


FORK = """
import os, signal, sys
import numpy as np
from lwasr_edge import Recognizer

recognizer = Recognizer(sys.argv[1], threads=2)
recognizer.transcribe(np.zeros(16_000, np.float32), 16_000)
pid = os.fork()
signal.alarm(30)
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
if "use" in sys.argv:
    recognizer.transcribe(np.zeros(16_000, np.float32), 16_000)
sys.exit(7)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("what", ["use", "ignore"])
def test_a_forked_process_ends(model_path: Path, what: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(model_path), what]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 7, signal.Signals(-ended.returncode).name if ended.returncode < 0 else ended.stderr


def test_closing_releases_the_model(model_path: Path) -> None:
    with Recognizer(model_path) as recognizer:
        model = weakref.ref(recognizer._model)
        other = recognizer.with_decoding(beam=2)
        stream = other.stream()
    for use in (recognizer.stream, lambda: recognizer.info, lambda: recognizer.transcribe(speak(*SPOKEN), 16_000)):
        with pytest.raises(StreamError, match=r"the recognizer is closed: make another with Recognizer\(\)"):
            use()
    recognizer.close()
    assert other.transcribe(speak(*SPOKEN), 16_000).text == "two one"
    other.close()
    assert [event.text for event in [*stream.accept(speak(*SPOKEN)), *stream.flush()]][-1] == "two one"
    del stream
    assert model() is None


def test_no_threads_are_all_cores(model_path: Path) -> None:
    assert Recognizer(model_path, threads=0)._model._threads is Recognizer(model_path, threads=None)._model._threads
    with pytest.raises(OptionError, match="threads must be a whole number >= 0, got -1: None uses all cores"):
        Recognizer(model_path, threads=-1)


def test_options_of_impossible_size(model_path: Path) -> None:
    with pytest.raises(OptionError, match="threads must be at most 1024, got 1099511627776"):
        Recognizer(model_path, threads=2**40)
    with pytest.raises(ModelNotFoundError, match="File name too long"):
        Recognizer("a" * 5000)


def test_an_empty_name_of_a_model() -> None:
    with pytest.raises(OptionError, match=r"model must be a name, a path or None, got an empty string: None is"):
        Recognizer("")
