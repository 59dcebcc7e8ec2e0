"""What uvicorn's connections need beside what vLLM sets, against clients that do not read."""

import socket

import uvicorn

SECONDS_TO_CLOSE = 3  # at shutdown, for clients to read the last error; then connections break
# For a client to take the end of an answer, which the server holds without a request.
SECONDS_TO_READ = 60


def end_unread(server: uvicorn.Server) -> None:
    """Ends the connections of clients that do not read; without that, they stay for ever.

    Connections that were accepted before are not changed. Unix sockets have no such limit, and
    systems other than Linux no such option.
    """
    server.config.timeout_graceful_shutdown = SECONDS_TO_CLOSE
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    for listening in (each for started in server.servers for each in started.sockets):
        if listening.family != socket.AF_UNIX:  # accepted sockets inherit the option
            limit = SECONDS_TO_READ * 1000
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
