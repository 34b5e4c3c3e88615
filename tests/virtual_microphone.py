"""A microphone that plays recordings: a private PulseAudio server, whose null sink is recorded.

PortAudio opens it like any microphone of a Linux board: sounddevice -> PortAudio -> ALSA -> PulseAudio.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path

DEVICE = "speech"
PACKAGES = "libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils"
PROGRAMS = ("pulseaudio", "pactl", "paplay")
ALSA_PLUGIN = "libasound_module_pcm_pulse.so"


@functools.cache
def why_missing() -> str | None:
    """Why this machine cannot have a virtual microphone; None if it can."""
    if not sys.platform.startswith("linux"):
        return "the virtual microphone needs Linux"
    if importlib.util.find_spec("sounddevice") is None:
        return "sounddevice is not installed"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [] if find_library("portaudio") else ["PortAudio"]
    has_plugin = any(any(Path("/usr").glob(f"{folder}/alsa-lib/{ALSA_PLUGIN}")) for folder in ("lib*", "lib/*"))
    missing += [] if has_plugin else [ALSA_PLUGIN]
    return f"no {', '.join(missing)}: sudo apt install {PACKAGES}" if missing else None


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    """Poll until the condition is true.

    Raises:
        TimeoutError: it was not true in time.
    """
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not true after {timeout_s:g} s: {what}")
        time.sleep(0.02)


class VirtualMicrophone:
    """A context manager that starts and stops the server.

    Attributes:
        env: environment in which programs find the microphone, as the device `DEVICE`.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lwasr-mic-"))  # short: socket paths are limited to 107 bytes
        socket = self._folder / "socket"
        alsa = self._folder / "asound.conf"
        alsa.write_text(
            "</usr/share/alsa/alsa.conf>\n"
            f'pcm.{DEVICE} {{ type pulse; device "{DEVICE}.monitor" }}\n'
            f"pcm.!default {{ type pulse }}\n"
        )
        # norewinds keeps the sink's blocks short; otherwise an idle sink delivers two seconds at a time.
        (self._folder / "server.pa").write_text(
            f"load-module module-native-protocol-unix auth-anonymous=1 socket={socket}\n"
            f"load-module module-null-sink sink_name={DEVICE} rate=48000 channels=2 norewinds=1\n"
        )
        self.env = {
            **os.environ,
            "HOME": str(self._folder),
            "XDG_RUNTIME_DIR": str(self._folder),
            "XDG_CONFIG_HOME": str(self._folder / "config"),
            "PULSE_SERVER": f"unix:{socket}",
            "ALSA_CONFIG_PATH": str(alsa),
            # Only one server may have PulseAudio's name on a session bus: this one does not use it.
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self._folder}/none",
        }
        self._server: subprocess.Popen | None = None

    def __enter__(self) -> VirtualMicrophone:
        try:
            self._start_server()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def play(self, path: Path) -> None:
        """Play a recording; return at its end."""
        subprocess.run(["paplay", f"--device={DEVICE}", str(path)], env=self.env, check=True, timeout=60)

    def kill(self) -> None:
        """End the sound server, as in a crash."""
        self._signal(signal.SIGKILL)

    def hang(self) -> None:
        """Stop the sound server, so that it no longer answers."""
        self._signal(signal.SIGSTOP)

    def unplug(self) -> None:
        """Remove the device; the server continues."""
        self._pactl("unload-module", "module-null-sink")

    def suspend(self) -> None:
        """Suspend the device, so that it delivers nothing."""
        self._pactl("suspend-sink", DEVICE, "1")

    def _start_server(self) -> None:
        command = ["pulseaudio", "--system=false", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        command += ["--disable-shm=yes", "--realtime=no", "--high-priority=no", "-n", "-F", "server.pa"]
        with (self._folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(command, cwd=self._folder, env=self.env, stdout=log, stderr=log)

        def is_up() -> bool:
            if self._server.poll() is not None:
                raise RuntimeError(f"pulseaudio ended:\n{(self._folder / 'server.log').read_text()}")
            sinks = subprocess.run(["pactl", "list", "short", "sinks"], env=self.env, capture_output=True, text=True)
            return DEVICE in sinks.stdout

        wait_until(is_up, "pulseaudio answers")

    def _signal(self, number: signal.Signals) -> None:
        self._server.send_signal(number)

    def _pactl(self, *arguments: str) -> None:
        subprocess.run(["pactl", *arguments], env=self.env, check=True, timeout=10)
