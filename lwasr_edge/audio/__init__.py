"""Files, bytes and arrays to mono float32 samples."""
