"""Every error of this package, in one tree.

    LwasrError
    ├── OptionError (ValueError)               an option with an invalid value
    ├── AudioError (ValueError)                audio that cannot be used
    │   ├── AudioFileNotFoundError (FileNotFoundError)
    │   └── AudioFormatError                   not audio, or in a format that cannot be read
    ├── AudioDeviceError (OSError)             a microphone that cannot be opened, or was disconnected
    ├── ModelError (ValueError)                a file that is not a model of this project, or a damaged one
    │   ├── ModelNotFoundError (FileNotFoundError)
    │   └── ModelVersionError                  a model in a newer format
    ├── LanguageModelError (ValueError)        a file that is not a language model, or a damaged one
    ├── CatalogError (OSError)                 a model that cannot be fetched or stored
    │   └── ChecksumError                      its SHA-256 is not the one in its card
    ├── StreamError (RuntimeError)             a stream used after its end, or by two threads
    ├── OutputError (OSError)                  a result that cannot be written
    ├── MissingExtraError (ImportError)        an optional dependency that is not installed
    ├── CheckpointError (ValueError)           training: a checkpoint that cannot be read or does not fit
    ├── VerificationError (ValueError)         export: a file whose output differs from the checkpoint's
    └── ManifestError (ValueError)             training: an invalid line in a manifest of recordings

Each is also a built-in kind of error. A message has the form "X must be Y, got Z: do W".
"""


class LwasrError(Exception):
    """The root: `except LwasrError` catches every error that this package raises on purpose."""


class OptionError(LwasrError, ValueError):
    """An option with an invalid value."""


class AudioError(LwasrError, ValueError):
    """Audio that cannot be used: empty, not finite, or with an invalid sample rate, shape or type."""


class AudioFileNotFoundError(AudioError, FileNotFoundError):
    """The audio file does not exist."""


class AudioFormatError(AudioError):
    """The bytes are not audio, or in a format that cannot be read."""


class AudioDeviceError(LwasrError, OSError):
    """The microphone cannot be opened, or stopped delivering audio."""


class ModelError(LwasrError, ValueError):
    """The file does not follow the model format (docs/MODEL_FORMAT.md), or is damaged."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """No such model file, and no installed model of that name."""


class ModelVersionError(ModelError):
    """The model's format is newer than this version of the package supports."""


class LanguageModelError(LwasrError, ValueError):
    """The file is not a language model (ARPA or .lm), or is damaged."""


class CatalogError(LwasrError, OSError):
    """A model cannot be fetched, read or stored."""


class ChecksumError(CatalogError):
    """The SHA-256 or size of a file is not the one in its card."""


class StreamError(LwasrError, RuntimeError):
    """A stream was used after its end, or from a thread that does not own it."""


class OutputError(LwasrError, OSError):
    """A result cannot be written."""


class MissingExtraError(LwasrError, ImportError):
    """An optional dependency is missing; the message is the install command."""


class CheckpointError(LwasrError, ValueError):
    """A checkpoint cannot be read, or does not match the code."""


class VerificationError(LwasrError, ValueError):
    """The output of the exported file differs from the checkpoint's."""


class ManifestError(LwasrError, ValueError):
    """A manifest of recordings has an invalid line."""


class CatalogWarning(UserWarning):
    """An installed model cannot be used and was skipped."""


class AudioWarning(UserWarning):
    """The audio is truncated, damaged or almost silent; the readable part was used."""
