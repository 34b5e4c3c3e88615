"""Every error of this package, in one tree.

    LwasrError
    ├── OptionError (ValueError)               an impossible setting
    ├── AudioError (ValueError)                audio that cannot be used
    │   ├── AudioFileNotFoundError (FileNotFoundError)
    │   └── AudioFormatError                   not a recording, or not one that can be read
    ├── AudioDeviceError (OSError)             a microphone that cannot be opened, or that went away
    ├── ModelError (ValueError)                a file that is not a model of this project, or a damaged one
    │   ├── ModelNotFoundError (FileNotFoundError)
    │   └── ModelVersionError                  a model made for a newer runtime
    ├── LanguageModelError (ValueError)        a file that is no ARPA language model, or a damaged one
    ├── CatalogError (OSError)                 a model that could not be fetched or stored
    │   └── ChecksumError                      its bytes are not those its card promises
    ├── StreamError (RuntimeError)             a stream used after its end, or by two threads
    ├── OutputError (OSError)                  a result that could not be written
    ├── MissingExtraError (ImportError)        an optional dependency that is not installed
    ├── CheckpointError (ValueError)           training: a checkpoint that cannot be read or does not fit
    ├── VerificationError (ValueError)         export: a file that does not do what the checkpoint does
    └── ManifestError (ValueError)             training: a bad line in a manifest of recordings

Each is also the built-in kind that a caller would catch anyway. A message says what was expected, what came, and
what to do about it.
"""


class LwasrError(Exception):
    """The root: `except LwasrError` catches whatever this package raises on purpose."""


class OptionError(LwasrError, ValueError):
    """A setting with an impossible value."""


class AudioError(LwasrError, ValueError):
    """Audio that cannot be used: empty, not finite, of an impossible rate, shape or type."""


class AudioFileNotFoundError(AudioError, FileNotFoundError):
    """The audio file does not exist."""


class AudioFormatError(AudioError):
    """The bytes are not a recording, or not in a format that can be read."""


class AudioDeviceError(LwasrError, OSError):
    """The microphone could not be opened, or stopped delivering."""


class ModelError(LwasrError, ValueError):
    """The file does not obey the model contract, or is damaged."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """No such model file, and no model of that name."""


class ModelVersionError(ModelError):
    """The model was written for a newer contract than this runtime knows."""


class LanguageModelError(LwasrError, ValueError):
    """The file is not an ARPA language model, or is damaged."""


class CatalogError(LwasrError, OSError):
    """A model could not be fetched, read or stored."""


class ChecksumError(CatalogError):
    """A file is not the one its card describes."""


class StreamError(LwasrError, RuntimeError):
    """A stream was used after its end, or by a thread that does not own it."""


class OutputError(LwasrError, OSError):
    """A result could not be written."""


class MissingExtraError(LwasrError, ImportError):
    """An optional dependency is missing; the message is the install command."""


class CheckpointError(LwasrError, ValueError):
    """A checkpoint cannot be read, or does not fit the code."""


class VerificationError(LwasrError, ValueError):
    """The exported file does not do what the checkpoint does."""


class ManifestError(LwasrError, ValueError):
    """A manifest of recordings has a line that cannot be used."""


class CatalogWarning(UserWarning):
    """An installed model cannot be used."""


class AudioWarning(UserWarning):
    """The audio could be used, but not all of it was there."""
