"""`lwasr serve`: recognition for other programs, over the Wyoming protocol, WebSockets and OpenAI's HTTP interface.

    program.py        starts the servers that were asked for, and ends them after a signal
    service.py        the recogniser, its worker threads, and how many clients may use them
    session.py        the audio of one client -> events
    wyoming/          Home Assistant's voice protocol
    http/             WebSocket /v1/stream, POST /v1/audio/transcriptions, models, health, metrics

Needs the extra `serve`; nothing else in the package imports this folder.
"""
