"""A server on this machine that misbehaves on request; nothing here reaches the network."""

import importlib.util
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest


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
        tag, body, start = server.tags.get(path, '"one"'), server.files.get(path), 0
        headers = {"ETag": tag, "Accept-Ranges": "bytes"}
        status = fault.get("status", 404 if body is None else 200)
        if status != 200:
            headers, body = {}, b"<html>sorry</html>"
        elif asked and server.ranges and self.headers.get("If-Range", tag) == tag:
            status, start = 206, int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        headers["Content-Length"] = fault.get("claim", len(body) - start)
        self.send_response(status)
        for name, value in {**headers, **fault.get("headers", {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            stop = start + fault.get("stop_after", len(body))
            self.wfile.write(body[start:stop])
            if fault.get("wait"):  # until the test lets go
                self.server.gate.wait(20)
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


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path, repository):
    """Whatever is not on this machine goes to a proxy that is not there (the discard port is closed)."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def start(repository):
    """Starts download_dataset.sh (of the project, or of a copy of it) and returns the process."""
    running = []

    def begin(*arguments, root=repository):
        command = ["bash", str(root / "download_dataset.sh"), *map(str, arguments), "--backoff", "0.01"]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, restore_signals=True))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def shell(start):
    """Runs download_dataset.sh to its end, as a person does."""

    def run(*arguments, **more):
        process = start(*arguments, **more)
        out, err = process.communicate(timeout=60)
        return SimpleNamespace(code=process.returncode, out=out, err=err)

    return run


@pytest.fixture
def download(server, repository, capfd):
    """Runs what download_dataset.sh runs on data/, from the test's server, without the cost of a process."""
    spec = importlib.util.spec_from_file_location("fetch_files", repository / "tools" / "fetch_files.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*arguments, mirror=server.url):
        capfd.readouterr()
        mirrored = ["--mirror", str(mirror)] if mirror else []
        try:
            code = tool.main([*mirrored, "--target", "data", "--backoff", "0.01", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run
