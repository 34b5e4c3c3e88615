"""Export of a checkpoint to one self-contained ONNX file (docs/MODEL_FORMAT.md). Command: ``lwasr-export``."""
