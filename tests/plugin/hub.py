"""The part of the Hugging Face Hub's interface by which a model is downloaded, on this machine."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


REVISION = _hash(b"the only one")


@contextlib.contextmanager
def hub(name: str, directory: Path) -> Iterator[str]:
    """The address of a hub that has one model, `name`, with the files in `directory`."""
    files = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }
    listed = [
        {"type": "file", "path": path, "size": len(files[path]), "oid": _hash(files[path])}
        for path in files
    ]
    about = {"id": name, "sha": REVISION, "siblings": [{"rfilename": path} for path in files]}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(self.head())

        def do_HEAD(self) -> None:
            self.head()

        def head(self) -> bytes:
            """Sends the head of an answer, and returns its body."""
            body = found(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            if body is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", _hash(body or b""))
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            return body or b""

        def log_message(self, *_: Any) -> None:
            """Nothing, so that the output of a test is its own."""

    def found(path: str) -> bytes | None:
        if path.startswith(f"/api/models/{name}/tree/"):
            return json.dumps(listed).encode()
        if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
            return json.dumps(about).encode()
        _, _, file = path.removeprefix(f"/{name}/resolve/").partition("/")
        return files.get(file)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
