"""HTTP: WebSocket /v1/stream, POST /v1/audio/transcriptions, models, health and metrics."""
