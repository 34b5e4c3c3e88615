"""lwasr-edge: speech recognition on the device.

    from lwasr_edge import Recognizer

    print(Recognizer().transcribe("a.wav").text)

All but the errors is loaded when first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lwasr_edge.errors import (
    AudioDeviceError,
    AudioError,
    AudioFileNotFoundError,
    AudioFormatError,
    AudioWarning,
    CatalogError,
    CatalogWarning,
    ChecksumError,
    LanguageModelError,
    LwasrError,
    MissingExtraError,
    ModelError,
    ModelNotFoundError,
    ModelVersionError,
    OptionError,
    OutputError,
    StreamError,
)

if TYPE_CHECKING:
    from lwasr_edge.audio import load_audio
    from lwasr_edge.beam import BeamSearch
    from lwasr_edge.contract import ModelInfo
    from lwasr_edge.decoding import Alternative
    from lwasr_edge.endpoint import EndpointRules
    from lwasr_edge.events import Event, Final, Partial
    from lwasr_edge.language_model import LanguageModel
    from lwasr_edge.microphone import Listener
    from lwasr_edge.model import Model
    from lwasr_edge.phrases import PhraseList
    from lwasr_edge.recognizer import Recognizer, Transcript
    from lwasr_edge.stream import Stream
    from lwasr_edge.words import Word

__version__ = "0.1.0"

__all__ = [
    "Alternative",
    "AudioDeviceError",
    "AudioError",
    "AudioFileNotFoundError",
    "AudioFormatError",
    "AudioWarning",
    "BeamSearch",
    "CatalogError",
    "CatalogWarning",
    "ChecksumError",
    "EndpointRules",
    "Event",
    "Final",
    "LanguageModel",
    "LanguageModelError",
    "Listener",
    "LwasrError",
    "MissingExtraError",
    "Model",
    "ModelError",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelVersionError",
    "OptionError",
    "OutputError",
    "Partial",
    "PhraseList",
    "Recognizer",
    "Stream",
    "StreamError",
    "Transcript",
    "Word",
    "list_devices",
    "load_audio",
]

_MODULE_OF = {
    "Alternative": "decoding",
    "BeamSearch": "beam",
    "EndpointRules": "endpoint",
    "Event": "events",
    "Final": "events",
    "LanguageModel": "language_model",
    "Listener": "microphone",
    "Model": "model",
    "ModelInfo": "contract",
    "Partial": "events",
    "PhraseList": "phrases",
    "Recognizer": "recognizer",
    "Stream": "stream",
    "Transcript": "recognizer",
    "Word": "words",
    "list_devices": "devices",
    "load_audio": "audio",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
