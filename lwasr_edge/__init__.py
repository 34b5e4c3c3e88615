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
    LimitError,
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
    from lwasr_edge.audio.reader import load_audio
    from lwasr_edge.decoding.alternatives import Alternative
    from lwasr_edge.decoding.beam import BeamSearch
    from lwasr_edge.decoding.language_model import LanguageModel
    from lwasr_edge.decoding.phrases import PhraseList
    from lwasr_edge.events import Event, Final, Partial
    from lwasr_edge.microphone.listener import Listener
    from lwasr_edge.model import Model
    from lwasr_edge.model_info import ModelInfo
    from lwasr_edge.recognizer import Recognizer, Transcript
    from lwasr_edge.stream import Stream
    from lwasr_edge.utterance import EndpointRules
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
    "LimitError",
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
    "Alternative": "decoding.alternatives",
    "BeamSearch": "decoding.beam",
    "EndpointRules": "utterance",
    "Event": "events",
    "Final": "events",
    "LanguageModel": "decoding.language_model",
    "Listener": "microphone.listener",
    "Model": "model",
    "ModelInfo": "model_info",
    "Partial": "events",
    "PhraseList": "decoding.phrases",
    "Recognizer": "recognizer",
    "Stream": "stream",
    "Transcript": "recognizer",
    "Word": "words",
    "list_devices": "microphone.devices",
    "load_audio": "audio.reader",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
