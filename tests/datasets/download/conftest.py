"""A server on this machine that misbehaves on request; nothing here reaches the network."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NOWHERE = "http://127.0.0.1:9"  # the discard port: closed


class Server(ThreadingHTTPServer):
    """Serves `files` {path: bytes}.

    Attributes:
        faults: {path: [fault, ...]}: one is used up by each GET of that path; "*" for every path.
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

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        server, (path, _, _) = self.server, self.path.partition("?")
        asked = self.headers.get("Range")
        server.log.append((self.command, self.path, asked))
        fault = server.always.get(path, server.always.get("*"))
        if self.command == "GET":
            waiting = server.faults.get(path) or server.faults.get("*")
            fault = waiting.pop(0) if waiting else fault
        fault = dict(fault or {})
        body = server.files.get(path)
        if body is None and "status" not in fault:
            fault = {"status": 404, "body": b"<Error><Code>BlobNotFound</Code></Error>"}
        if "status" in fault:
            return self.send(fault["status"], fault.get("body", b""), fault.get("headers", {}))
        tag = server.tags.get(path, '"one"')
        unchanged = self.headers.get("If-Range") in (None, tag)
        headers = {"ETag": tag, "Content-Type": "application/octet-stream", **fault.get("headers", {})}
        if asked and unchanged and server.ranges and not fault.get("whole"):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(body):
                return self.send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            shown = start + fault.get("shift", 0)
            headers["Content-Range"] = f"bytes {shown}-{len(body) - 1}/{len(body)}"
            return self.send(206, body[shown:], headers, fault)
        return self.send(200, body, headers, fault)

    def send(self, status, body, headers, fault=()):
        fault = dict(fault)
        self.send_response(status)
        if not fault.get("no_length"):
            self.send_header("Content-Length", str(fault.get("claim", len(body))))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if "wait_after" in fault:  # until the test lets go
            self.wfile.write(body[: fault["wait_after"]])
            self.wfile.flush()
            self.server.gate.wait(20)
            body = body[fault["wait_after"] :]
        self.wfile.write(body[: fault.get("drop_after", len(body))])
        if {"drop_after", "claim", "no_length"} & set(fault):
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever is not on this machine goes to a proxy that is not there."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


class Done:
    """What a finished command left: code, out, err."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@pytest.fixture
def start(tmp_path):
    """Starts download_dataset.sh (of the project, or of a copy of it) and returns the process."""
    running = []

    def begin(*arguments, root=ROOT):
        command = ["bash", str(root / "download_dataset.sh"), *map(str, arguments), "--backoff", "0.01"]
        environment = {**os.environ, "PYTHON": os.environ.get("PYTHON") or sys.executable}
        pipe = subprocess.PIPE
        # A shell ignores Ctrl-C for what it starts in the background, and children inherit that; not here.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, env=environment)
        signal.signal(signal.SIGINT, before)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def shell(start):
    """Runs download_dataset.sh to its end, as a person does."""

    def run(*arguments, **more):
        process = start(*arguments, **more)
        out, err = process.communicate(timeout=60)
        return Done(process.returncode, out, err)

    return run


@pytest.fixture
def download(tmp_path, monkeypatch, capsys):
    """Runs what download_dataset.sh runs, without the cost of a process."""
    spec = importlib.util.spec_from_file_location("fetch_files", ROOT / "tools" / "fetch_files.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        try:
            code = tool.main([*map(str, arguments), "--backoff", "0.01"])
        except SystemExit as stop:
            code = stop.code
        return Done(code, *capsys.readouterr())

    return run
