"""The files server: what goes up comes down, in parts too; nothing outside its folder is ever touched."""

import json
import os
import resource
import socket
import subprocess
import sys

import pytest
import requests


@pytest.fixture
def files(http):
    session = requests.Session()
    session.headers.update(http.bearer())

    class Files:
        url, root = http.files, http.ready["files_dir"]

        def put(self, name, data=b"text", **options):
            return session.post(self.url, files={name: ("any", data)}, timeout=60, **options)

        def __call__(self, method, path, **options):
            return session.request(method, self.url + path, timeout=60, **options)
    return Files()


def test_an_upload_comes_back_with_its_size_type_and_etag(files):
    answer = files.put("proj/task.1/artifacts/a b/ü.json", b'{"x": 1}')
    assert answer.status_code == 200 and answer.json() == ["proj/task.1/artifacts/a b/ü.json"]
    found = files("GET", "/proj/task.1/artifacts/a%20b/%C3%BC.json")
    assert found.content == b'{"x": 1}' and found.headers["Content-Length"] == "8"
    assert found.headers["Content-Type"].startswith("application/json")
    assert found.headers["ETag"] and found.headers["Last-Modified"]
    head = files("HEAD", "/proj/task.1/artifacts/a%20b/%C3%BC.json")
    assert head.status_code == 200 and head.headers["Content-Length"] == "8" and head.content == b""
    again = files("GET", "/proj/task.1/artifacts/a%20b/%C3%BC.json", headers={"If-None-Match": found.headers["ETag"]})
    assert again.status_code == 304
    etag = found.headers["ETag"]
    for known, code in ((f'"old", W/{etag}', 304), ("*", 304), ('"old"', 200)):
        again = files("GET", "/proj/task.1/artifacts/a%20b/%C3%BC.json", headers={"If-None-Match": known})
        assert again.status_code == code, known


def test_a_quote_in_a_name_is_found_however_it_was_written(files):
    """The clearml package writes %22 for one in the name of a task, and requests for one in that of a file."""
    for name, paths in (('quoted/a%22b.1/x', ["a%2522b.1/x", "a%22b.1/x"]), ('quoted/c"d', ["c%22d", "c%2522d"])):
        assert files.put(name, name.encode()).status_code == 200
        assert [files("GET", "/quoted/" + path).content for path in paths] == [name.encode()] * 2
    assert files("DELETE", "/quoted/a%2522b.1/x").status_code == 200
    assert files("POST", "/delete_many", json={"files": ["quoted/c%22d"]}).json()["errors"] == {}
    assert not os.path.exists(os.path.join(files.root, "quoted"))


def test_a_later_upload_overwrites_and_a_failed_one_leaves_nothing(files, http):
    files.put("twice.bin", b"one")
    files.put("twice.bin", b"two")
    assert files("GET", "/twice.bin").content == b"two"
    body = (b"--b\r\nContent-Disposition: form-data; name=\"twice.bin\"; filename=\"f\"\r\n\r\nthr")
    answer = files("POST", "/", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400
    assert files("GET", "/twice.bin").content == b"two"
    assert os.listdir(os.path.join(files.root, ".agentpipe-uploads")) == []


def test_what_cannot_be_written_leaves_nothing_and_is_said(files, http):
    pid = http.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (8 << 20, before[1]))
    try:
        # the second one fails only when what is buffered is flushed
        answers = [files.put("large.bin", bytes(size)) for size in (9 << 20, (8 << 20) + 1000)]
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    assert [answer.status_code for answer in answers] == [500, 500] and "too large" in answers[0].text.lower()
    assert files("GET", "/large.bin").status_code == 404
    assert os.listdir(os.path.join(files.root, ".agentpipe-uploads")) == []


def test_a_connection_that_breaks_during_an_upload_leaves_nothing(files, http):
    host, port = files.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + http.token().encode() +
            b"\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000000\r\n\r\n"
            b"--b\r\nContent-Disposition: form-data; name=\"broken.bin\"; filename=\"f\"\r\n\r\n" + b"x" * 3_000_000)
    assert files("GET", "/broken.bin").status_code == 404
    growing = os.path.join(files.root, ".agentpipe-uploads")
    until = 200
    while os.listdir(growing) and until:
        until -= 1
        files("GET", "/")
    assert os.listdir(growing) == []


def test_ranges(files):
    files.put("range.bin", bytes(range(100)))
    part = files("GET", "/range.bin", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == bytes(range(10, 20))
    assert part.headers["Content-Range"] == "bytes 10-19/100"
    assert files("GET", "/range.bin", headers={"Range": "bytes=-5"}).content == bytes(range(95, 100))
    assert files("GET", "/range.bin", headers={"Range": "bytes=500-"}).status_code == 416


def test_downloads_and_gz_files(files):
    files.put("x.tar.gz", b"\x1f\x8b")
    found = files("GET", "/x.tar.gz?download=1")
    assert found.headers["Content-Type"] == "application/octet-stream" and "Content-Encoding" not in found.headers
    assert found.headers["Content-Disposition"].startswith("attachment")


def test_a_page_that_was_uploaded_gets_no_origin(files):
    files.put("page.html", b"<script>1</script>")
    found = files("GET", "/page.html")
    assert "sandbox" in found.headers["Content-Security-Policy"]
    assert found.headers["X-Content-Type-Options"] == "nosniff"


def test_several_files_in_one_request_and_fields_that_are_none(files):
    answer = files("POST", "/", files={"m/one": ("a", b"1"), "m/two": ("b", b"2")}, data={"field": "ignored"})
    assert sorted(answer.json()) == ["m/one", "m/two"]
    assert not os.path.exists(os.path.join(files.root, "field"))


def test_a_large_upload_and_download(files):
    data = os.urandom(1 << 20) * 30
    assert files.put("large.bin", data).status_code == 200
    assert files("GET", "/large.bin").content == data


def test_delete(files):
    files.put("gone/a", b"1")
    files.put("gone/b", b"1")
    files.put("gone/deep/c", b"1")
    answer = files("DELETE", "/gone/a")
    assert answer.status_code == 200 and answer.json() == "gone/a"
    assert files("GET", "/gone/a").status_code == 404
    assert files("DELETE", "/gone/a").status_code == 404
    assert files("DELETE", "/gone").status_code == 404, "a folder"
    answer = files("POST", "/delete_many", json={"files": ["gone/b", "gone/deep", "nope", "", "../x"]}).json()
    assert sorted(answer["deleted"]) == ["gone/b", "gone/deep"]
    assert sorted(name for names in answer["errors"].values() for name in names) == ["", "../x", "nope"]


def test_folders_go_with_their_last_file(files):
    """Task.delete of the clearml package asks for each file, and for no folder."""
    names = ["emptied/one.1/artifacts/a", "emptied/one.1/models/b", "emptied/two.2/c"]
    for name in names:
        files.put(name, b"1")
    files("DELETE", "/emptied/one.1/artifacts/a")
    assert os.listdir(os.path.join(files.root, "emptied/one.1")) == ["models"]
    files("POST", "/delete_many", json={"files": names[1:2]})
    assert os.listdir(os.path.join(files.root, "emptied")) == ["two.2"]
    assert files.put(names[0], b"2").status_code == 200 and files("GET", "/" + names[0]).content == b"2"


def test_a_path_that_is_too_deep_is_refused(files):
    assert files.put("d/" * 255 + "x", b"1").status_code == 200
    for levels in (256, 1500):
        assert files.put("d/" * levels + "x", b"1").status_code == 400
    assert files("POST", "/delete_many", json={"files": ["d"]}).json() == {"deleted": {"d": "d"}, "errors": {}}


def test_a_broken_upload_is_told_to_its_client_and_not_to_the_operator(files, http):
    answer = files("POST", "/", data=b"junk", headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400 and "boundary" in answer.text
    assert "boundary" not in http.said()


OUTSIDE = ["../secret", "a/../../secret", "..", "/..//../secret", "a/./../..//secret", ".agentpipe-uploads/x", "\0"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_is_written_outside(files, name):
    before = sorted(os.listdir(os.path.dirname(files.root)))
    body = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\nx\r\n--b--\r\n'.encode()
    answer = files("POST", "/", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 404
    assert sorted(os.listdir(os.path.dirname(files.root))) == before


@pytest.mark.parametrize("path", ["/../agent.db", "/%2e%2e/agent.db", "/x/..%2f..%2fagent.db", "/..%5cagent.db",
                                  "/%2fetc/passwd", "//etc/passwd", "/.agentpipe-uploads", "/%00", "/a%00b"])
def test_nothing_is_read_outside(files, http, path):
    host, port = files.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                           f"Authorization: Bearer {http.token()}\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer[:200]
    assert b"SQLite" not in answer and b"root:" not in answer


def test_links_lead_nowhere(files, tmp_path):
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path, os.path.join(files.root, "link"))
    os.symlink(tmp_path / "secret", os.path.join(files.root, "file-link"))
    assert files("GET", "/link/secret").status_code == 404
    assert files("GET", "/file-link").status_code == 404
    assert files.put("link/new", b"x").status_code == 404
    assert files.put("file-link", b"x").status_code == 404
    assert files("DELETE", "/link/secret").status_code == 404
    answer = files("POST", "/delete_many", json={"files": ["link", "link/secret"]}).json()
    assert answer["deleted"] == {}
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_file_and_a_folder_of_one_name_are_told_apart(files):
    files.put("both/inner", b"x")
    assert files.put("both", b"x").status_code == 409
    assert files.put("both/inner/deeper", b"x").status_code == 409
    assert files.put("n" * 300, b"x").status_code == 400


def test_strangers_see_that_it_is_there_and_nothing_else(http):
    assert requests.get(http.files + "/", timeout=30).text == "OK"
    for method, path in (("GET", "/twice.bin"), ("HEAD", "/twice.bin"), ("DELETE", "/twice.bin"), ("POST", "/"),
                         ("POST", "/delete_many"), ("PUT", "/x")):
        assert requests.request(method, http.files + path, timeout=30).status_code == 401


def test_compressed_and_wrong_bodies(files):
    assert files("POST", "/", data=b"x", headers={"Content-Encoding": "gzip"}).status_code == 415
    assert files("POST", "/", data=b"x").status_code == 400
    assert files("POST", "/delete_many", data=json.dumps({"files": "x"})).status_code == 400
    assert files("POST", "/delete_many", data=b"{").status_code == 400
    assert files("PUT", "/x", data=b"x").status_code == 405


def test_a_folder_that_became_read_only_is_called_that(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    script = (f"mount -t tmpfs none {folder} && mkdir {folder}/.agentpipe-uploads && mount -o remount,ro {folder} && "
              'exec "$0" "$@"')
    serve = [sys.executable, "-m", "agentpipe.cmds.agent_server", "--port", "0", "--files-port", "0",
             "--files-dir", str(folder)]
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, *serve], text=True, capture_output=True, check=False,
                          timeout=30, env={**os.environ, "AGENT_HOME": str(tmp_path / "home")})
    assert (done.returncode, done.stderr) == (
        73, f"agent-server: cannot write to {folder}: Read-only file system (choose another --files-dir)\n")


def test_a_folder_that_is_removed_is_gone_at_once_for_who_uploads_into_it(tmp_path, monkeypatch):
    from agentpipe import trees
    from agentpipe.server import files as module
    served, remove = module.Files(str(tmp_path), None), trees.remove
    folder = tmp_path / "task.1" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "old").write_text("old")

    def uploaded_meanwhile(path):
        folder.mkdir(parents=True)
        (folder / "new").write_text("new")
        remove(path)
    monkeypatch.setattr(trees, "remove", uploaded_meanwhile)
    assert served._delete_many({"files": ["task.1"]}) == {"deleted": {"task.1": "task.1"}, "errors": {}}
    assert os.listdir(folder) == ["new"] and not os.listdir(served.growing)
