"""One file from a server that drops, refuses, lies or changes its mind."""

import hashlib
import os
import random
import urllib.request

import pytest

from oscar_paddle.datasets.download.http_download import Downloader, DownloadError, _CarefulRedirects

DATA = random.Random(7).randbytes(3_000_000)
PATH = "/oscar/file.bin"


class Fetch:
    """`fetch()` gets PATH into `path`; `said` collects what the downloader tells."""

    def __init__(self, server, folder):
        server.files[PATH] = DATA
        self.server, self.path, self.part = server, folder / "sub" / "file.bin", folder / "sub" / "file.bin.part"
        self.address, self.said, self.seen = server.url + PATH, [], []

    def __call__(self, retries=3, timeout=5.0, address=None, query="", **more):
        downloader = Downloader(retries, 0.001, timeout, query, self.said.append)
        note = lambda have, total: self.seen.append((have, total))  # noqa: E731
        return downloader.fetch(address or self.address, str(self.path), on_bytes=note, **more)

    def leave_part(self, count=1_000_000, timeout=5.0):
        """An earlier run that got `count` bytes."""
        self.server.faults[PATH] = [{"drop_after": count}]
        with pytest.raises(DownloadError):
            self(retries=0, timeout=timeout)
        assert self.part.read_bytes() == DATA[:count]
        self.server.log.clear()

    def is_complete(self):
        return self.path.read_bytes() == DATA and os.listdir(self.path.parent) == ["file.bin"]


@pytest.fixture
def fetch(server, tmp_path):
    return Fetch(server, tmp_path)


def test_plain(fetch):
    assert fetch() == "size"
    assert fetch.is_complete()
    assert fetch.seen[0] == (0, len(DATA)) and fetch.seen[-1] == (len(DATA), len(DATA))
    assert fetch(sha256=hashlib.sha256(DATA).hexdigest().upper()) == "sha256"


def test_dropped_connections_are_resumed(fetch):
    fetch.server.faults[PATH] = [{"drop_after": 1_000_000}, {"drop_after": 500_000}, {"drop_after": 700_001}]
    fetch()
    assert fetch.is_complete()
    assert fetch.server.gets(PATH) == [None, "bytes=1000000-", "bytes=1500000-", "bytes=2200001-"]
    assert "connection dropped after 1 MB of 3 MB" in fetch.said[0]


def test_progress_starts_the_count_of_failures_again(fetch):
    fetch.server.faults[PATH] = [{"drop_after": 1_200_000}, {"drop_after": 1_200_000}]
    fetch(retries=1)
    assert fetch.is_complete()


def test_gives_up_without_progress_and_keeps_what_came(fetch):
    fetch.server.faults[PATH] = [{"drop_after": 1_000_000}, *[{"drop_after": 0}] * 9]
    with pytest.raises(DownloadError, match=r"file\.bin: connection dropped after 1 MB .* gave up after 3 attempts"):
        fetch(retries=2)
    assert len(fetch.server.log) == 3
    assert fetch.part.read_bytes() == DATA[:1_000_000] and not fetch.path.exists()


def test_a_later_run_goes_on(fetch):
    fetch.leave_part()
    fetch()
    assert fetch.is_complete() and fetch.server.gets(PATH) == ["bytes=1000000-"]


def test_ranges_unsupported(fetch):
    fetch.leave_part()
    fetch.server.ranges = False
    fetch()
    assert fetch.is_complete() and "starting again" in fetch.said[0]


def test_ranges_unsupported_and_always_dropped_comes_to_an_end(fetch):
    fetch.server.ranges = False
    fetch.server.faults[PATH] = [{"drop_after": 2_500_000}] * 20
    with pytest.raises(DownloadError, match="gave up"):
        fetch(retries=2)
    assert len(fetch.server.log) <= 5


@pytest.mark.parametrize("same_size", [True, False])
def test_file_changed_on_the_server(fetch, same_size):
    fetch.leave_part()
    new = DATA[::-1] if same_size else DATA[::-1] + b"more"
    fetch.server.files[PATH], fetch.server.tags[PATH] = new, '"two"'
    fetch()
    assert fetch.path.read_bytes() == new


def test_another_mirror_goes_on_with_the_same_part(fetch):
    fetch.leave_part()
    fetch.server.files["/copy/file.bin"], fetch.server.tags["/copy/file.bin"] = DATA, '"other"'
    fetch(address=fetch.server.url + "/copy/file.bin")
    assert fetch.is_complete() and fetch.server.gets("/copy/file.bin") == ["bytes=1000000-"]


def test_another_mirror_with_a_file_of_another_size(fetch):
    fetch.leave_part()
    fetch.server.files["/copy/file.bin"] = b"x" * 2_000_000
    fetch(address=fetch.server.url + "/copy/file.bin")
    assert fetch.path.read_bytes() == b"x" * 2_000_000


def test_part_of_unknown_origin_is_not_trusted(fetch):
    fetch.part.parent.mkdir()
    fetch.part.write_bytes(b"somebody else's")
    fetch()
    assert fetch.is_complete() and fetch.server.gets(PATH) == [None]


@pytest.mark.parametrize("note", ["", "[1]", "\xff", '{"address": "ADDRESS", "size": 3000000, "validator": [5]}'])
def test_damaged_note_of_the_origin(fetch, note):
    fetch.leave_part()
    note = note.replace("ADDRESS", fetch.address)
    (fetch.path.parent / "file.bin.part.json").write_text(note, encoding="latin-1")
    fetch()
    assert fetch.is_complete()


def test_part_that_is_complete_already(fetch):
    fetch.leave_part(len(DATA) - 1)
    with open(fetch.part, "ab") as file:
        file.write(DATA[-1:])
    fetch()
    assert fetch.is_complete() and fetch.server.gets(PATH) == [f"bytes={len(DATA)}-"]


def test_part_longer_than_the_file(fetch):
    fetch.leave_part()
    fetch.part.write_bytes(DATA + b"too much")
    fetch()
    assert fetch.is_complete()


def test_answer_from_another_place_than_asked(fetch):
    fetch.leave_part()
    fetch.server.faults[PATH] = [{"shift": 5}]
    fetch()
    assert fetch.is_complete()


def test_silent_server(fetch):
    fetch.server.faults[PATH] = [{"wait_after": 1_000_000}]
    fetch(timeout=0.3)
    assert fetch.is_complete() and fetch.server.gets(PATH)[1] == "bytes=1000000-"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_retried(fetch, status):
    fetch.server.faults[PATH] = [{"status": status}] * 2
    fetch()
    assert fetch.is_complete() and f"HTTP {status}" in fetch.said[0] and "attempt 2 of 4" in fetch.said[0]


def test_pauses_grow_and_follow_the_server(fetch, monkeypatch):
    pauses = []
    monkeypatch.setattr("oscar_paddle.datasets.download.http_download.time.sleep", pauses.append)
    fetch.server.faults[PATH] = [{"status": 503}] * 4 + [{"status": 503, "headers": {"Retry-After": "17"}}]
    fetch(retries=5)
    assert all(1.6 * a < b for a, b in zip(pauses[:3], pauses[1:4], strict=True)) and pauses[4] == 17


REFUSAL = b"<?xml version='1.0'?><Error><Code>PublicAccessNotPermitted</Code><Message>Public access</Message></Error>"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 404}, "HTTP 404"),
        ({"status": 403}, "HTTP 403"),
        ({"status": 409, "body": REFUSAL}, r"HTTP 409 .*PublicAccessNotPermitted"),
        ({"status": 409, "headers": {"x-ms-error-code": "PublicAccessNotPermitted"}}, "PublicAccessNotPermitted"),
    ],
)
def test_final_answers_are_not_retried(fetch, fault, expected):
    fetch.server.faults[PATH] = [fault] * 5
    with pytest.raises(DownloadError, match=expected) as caught:
        fetch()
    assert caught.value.status == fault["status"] and fetch.address in str(caught.value)
    assert len(fetch.server.log) == 1 and not fetch.path.exists()


def test_wrong_size(fetch):
    with pytest.raises(DownloadError, match="has 3000000 bytes; expected 2999999"):
        fetch(size=len(DATA) - 1)
    assert not fetch.path.exists()
    assert fetch(size=len(DATA)) == "size"


@pytest.mark.parametrize("size", [None, 3_000_000, 3_000_001])
def test_server_that_tells_no_size(fetch, size):
    fetch.server.always[PATH] = {"no_length": True}
    if size == 3_000_001:
        with pytest.raises(DownloadError, match="3000000 bytes arrived; expected 3000001"):
            fetch(size=size)
        assert not fetch.path.exists()
    else:
        assert fetch(size=size) == ("nothing" if size is None else "size")
        assert fetch.is_complete()


def test_wrong_checksum(fetch):
    wrong = "0" * 64
    with pytest.raises(DownloadError, match=f"sha256 is {hashlib.sha256(DATA).hexdigest()}; expected {wrong}"):
        fetch(sha256=wrong)
    assert os.listdir(fetch.path.parent) == ["file.bin.rejected"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"Content-Type": "text/html; charset=utf-8"}, "a web page"), ({"Content-Encoding": "gzip"}, "the file as gzip")],
)
def test_something_else_than_the_file(fetch, headers, expected):
    fetch.server.faults[PATH] = [{"headers": headers}]
    with pytest.raises(DownloadError, match=f"sent {expected}"):
        fetch()
    assert not fetch.path.exists()


def test_redirect(fetch):
    moved = {"status": 302, "headers": {"Location": fetch.address}}
    fetch.server.always["/moved"] = moved
    fetch.leave_part()
    fetch(address=fetch.server.url + "/moved")
    assert fetch.is_complete() and fetch.server.gets(PATH) == ["bytes=1000000-"]
    assert Downloader(0).size(fetch.server.url + "/moved") == len(DATA)
    assert [method for method, *_ in fetch.server.log[-2:]] == ["HEAD", "HEAD"]


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/moved"])
def test_redirects_that_are_not_followed(fetch, location):
    fetch.server.always["/moved"] = {"status": 302, "headers": {"Location": location}}
    with pytest.raises(DownloadError, match="(?i)redirect|refused to follow"):
        fetch(address=fetch.server.url + "/moved")
    assert not fetch.path.exists()


def test_redirect_never_gives_up_encryption():
    request = urllib.request.Request("https://example.org/file?sig=secret")
    with pytest.raises(DownloadError, match=r"refused to follow .* to http://") as caught:
        _CarefulRedirects().redirect_request(request, None, 302, "Found", {}, "http://example.org/file?sig=secret")
    assert "secret" not in str(caught.value)


def test_no_server(fetch):
    fetch.server.server_close()
    with pytest.raises(DownloadError, match="no connection .* gave up after 2 attempts") as caught:
        fetch(retries=1, address="http://127.0.0.1:9/file")
    assert caught.value.unreachable


def test_full_disk(fetch):
    fetch.part.parent.mkdir()
    fetch.part.symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"file\.bin\.part: cannot write: No space left on device; 3 MB") as error:
        fetch()
    assert len(fetch.server.gets(PATH)) == 1 and "goes on from there" in str(error.value)


def test_access_string_is_sent_but_not_shown(fetch):
    fetch.server.faults["*"] = [{"status": 503}, {"status": 403}]
    with pytest.raises(DownloadError) as caught:
        fetch(query="?sig=secret")
    assert [path for _, path, _ in fetch.server.log] == [PATH + "?sig=secret"] * 2
    assert "secret" not in str(caught.value) + "".join(fetch.said)


@pytest.mark.parametrize("status", [405, 501])
def test_size_without_head(fetch, status, monkeypatch):
    real = Downloader._open

    def without_head(self, address, headers=None, method="GET"):
        if method == "HEAD":
            raise DownloadError("no HEAD", status=status)
        return real(self, address, headers, method)

    monkeypatch.setattr(Downloader, "_open", without_head)
    assert Downloader(0).size(fetch.address) == len(DATA)
    fetch.server.ranges = False
    assert Downloader(0).size(fetch.address) == len(DATA)


def test_local_file(fetch, tmp_path):
    (tmp_path / "a copy.bin").write_bytes(DATA)
    address = (tmp_path / "a copy.bin").as_uri()
    assert Downloader(0, query="sig=secret").size(address) == len(DATA)
    fetch(address=address, query="sig=secret")
    assert fetch.is_complete() and not fetch.server.log
    with pytest.raises(DownloadError, match="missing.*No such file"):
        fetch(address=(tmp_path / "missing").as_uri())
