"""A server on this machine that misbehaves on request, and download_dataset.sh as a person starts it."""

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from oscar_paddle.tools.fetch_files import main


class Server(ThreadingHTTPServer):
    """Serves `files` {path: bytes}.

    Attributes:
        faults: {path: [fault, ...]}: one is used up by each GET of that path.
        always: {path: fault} for every request, HEAD too; "*" for every path.
        ranges: whether byte ranges are honoured.  tags: {path: ETag}.
        log: (method, path with query, Range header) of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.faults, self.always, self.tags = {}, {}, {}, {}
        self.ranges, self.log, self.gate = True, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def gets(self, path):
        """The Range headers of the GET requests of a path."""
        return [asked for method, name, asked in self.log if method == "GET" and name == path]

    def handle_error(self, request, client_address):
        pass  # a client that went away is what some tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, path, asked = self.server, self.path.partition("?")[0], self.headers.get("Range")
        server.log.append((self.command, self.path, asked))
        fault = server.always.get(path) or server.always.get("*") or {}
        if self.command == "GET" and server.faults.get(path):
            fault = server.faults[path].pop(0)
        tag, body, start = server.tags.get(path, '"one"'), server.files.get(path, b""), 0
        status, headers = fault.get("status", 200 if body else 404), {"ETag": tag}
        if status == 200 and asked and server.ranges and self.headers.get("If-Range", tag) == tag:
            status, start = 206, int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(status)
        headers |= {"Content-Length": fault.get("claim", len(body) - start), **fault.get("headers", {})}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if fault.get("gone"):  # with everything else that it serves
            server.shutdown()
            server.server_close()
        elif self.command == "GET":
            self.wfile.write(body[start : start + fault.get("stop_after", len(body))])
            if fault.get("wait"):  # until the test lets go
                server.gate.wait(100)
        self.close_connection = bool(fault)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


def ctrl_c_works():
    """A child inherits that SIGINT is ignored, as it is where the tests themselves run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def start(server, repository, tmp_path, monkeypatch):
    """Starts download_dataset.sh; whatever is not on this machine goes to a proxy that is not there (a closed port)."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PYTHON", sys.executable)

    def begin(*arguments, mirror=server.url, root=repository):
        command = ["/bin/bash", str(root / "download_dataset.sh"), "--backoff", "0.01", *map(str, arguments)]
        command += ["--mirror", str(mirror)] if mirror else []
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=os.environ, preexec_fn=ctrl_c_works, **pipes)

    return begin


@pytest.fixture
def download(server, start, capfd, tmp_path, monkeypatch):
    """Runs the downloader to its end, by default on data/ from the test's server; returns stdout, or stderr on failure.

    With a `root` as download_dataset.sh does it, otherwise without the cost of a process.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0, target="data", mirror=server.url, root=None):
        arguments = [*arguments, *(["--target", target] if target else [])]
        if root:
            process = start(*arguments, mirror=mirror, root=root)
            (out, err), found = process.communicate(timeout=60), process.returncode
        else:
            capfd.readouterr()
            try:
                found = main([*arguments, *(["--mirror", str(mirror)] if mirror else []), "--backoff", "0.01"])
            except SystemExit as stop:
                found = stop.code
            out, err = capfd.readouterr()
        assert found == code and "Traceback" not in err, f"exit {found}\n{out}\n{err}"
        return out if code == 0 else err

    return run
