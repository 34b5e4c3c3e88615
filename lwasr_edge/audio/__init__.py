"""Recordings and samples: from files, bytes and arrays to mono float32."""
