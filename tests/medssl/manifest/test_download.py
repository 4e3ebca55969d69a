"""Downloads against a server on localhost: resumed, restarted where the file changed, refused where it is wrong."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from medssl.errors import DataError, DiskError
from medssl.manifest.download import download
from medssl.manifest.unpacking import Bounds, unpack

BODY = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves one body with Range; ``cuts`` says after how many bytes each of the next answers breaks off."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag, self.cuts, self.asked, self.status, self.ranges = BODY, '"one"', [], [], [], True
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/set.tar"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_args):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.status:
            self.send_error(server.status.pop(0))
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range", server.tag) == server.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.body):
                self.send_error(416)
                return
        rest = server.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", server.tag)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(rest[:cut])


@pytest.fixture
def server():
    one = Server()
    yield one
    one.shutdown()
    one.server_close()


def bring(server, path, **more):
    return download(server.url, path, **{"algorithm": "sha256", "checksum": SHA, "pause_s": 0.001} | more)


def test_a_file_arrives_whole_with_progress_and_is_not_fetched_twice(server, tmp_path):
    said = []
    path = bring(server, tmp_path / "deep" / "set.tar", progress=lambda have, total: said.append((have, total)))
    assert path.read_bytes() == BODY
    assert said[-1] == (len(BODY), len(BODY))
    assert [p.name for p in path.parent.iterdir()] == ["set.tar"]
    bring(server, path)
    assert server.asked == [None]


def test_a_line_that_breaks_is_taken_up_where_it_broke(server, tmp_path):
    server.cuts = [300_000, 200_000]
    bring(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == BODY
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_a_program_that_was_stopped_goes_on_in_the_next_run(server, tmp_path):
    class StopError(Exception):
        pass

    def stop(have, _total):
        if have > 400_000:
            raise StopError

    with pytest.raises(StopError):
        bring(server, tmp_path / "set.tar", progress=stop)
    assert not (tmp_path / "set.tar").exists()
    have = (tmp_path / "set.tar.part").stat().st_size
    assert have > 0
    bring(server, tmp_path / "set.tar")
    assert server.asked == [None, f"bytes={have}-"]
    assert (tmp_path / "set.tar").read_bytes() == BODY


def test_a_file_that_changed_at_the_source_is_fetched_anew(server, tmp_path):
    server.cuts = [300_000] + [0] * 5
    with pytest.raises(DataError, match="connection failed"):
        bring(server, tmp_path / "set.tar")
    server.body, server.tag = BODY[::-1], '"two"'
    bring(server, tmp_path / "set.tar", checksum=hashlib.sha256(server.body).hexdigest())
    assert (tmp_path / "set.tar").read_bytes() == BODY[::-1]


def test_a_server_without_ranges_is_served_from_the_start(server, tmp_path):
    server.ranges, server.cuts = False, [300_000]
    bring(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == BODY


def test_a_part_of_another_address_is_not_continued(server, tmp_path):
    (tmp_path / "set.tar.part").write_bytes(b"x" * 1000)
    (tmp_path / "set.tar.part.json").write_text('{"url": "http://elsewhere/set.tar", "tag": ""}')
    bring(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == BODY


def test_a_part_that_is_too_long_is_fetched_anew(server, tmp_path):
    (tmp_path / "set.tar.part").write_bytes(BODY + b"more")
    (tmp_path / "set.tar.part.json").write_text(f'{{"url": "{server.url}", "tag": ""}}')
    bring(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == BODY


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match="should be 000"):
        bring(server, tmp_path / "set.tar", checksum="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_md5_and_passing_errors_of_the_server(server, tmp_path):
    server.status = [503, 429]
    bring(server, tmp_path / "set.tar", algorithm="md5", checksum=hashlib.md5(BODY).hexdigest())
    assert len(server.asked) == 3


def test_lasting_errors_end_at_once_and_dead_servers_after_some_tries(server, tmp_path):
    server.status = [404]
    with pytest.raises(DataError, match="404"):
        bring(server, tmp_path / "set.tar")
    assert len(server.asked) == 1
    server.status = [500] * 20
    with pytest.raises(DataError, match=r"5 times in a row.*same command"):
        bring(server, tmp_path / "set.tar")


def test_a_file_of_the_users_is_left_alone(server, tmp_path):
    (tmp_path / "set.tar").write_text("mine")
    with pytest.raises(DataError, match="is another file"):
        bring(server, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_text() == "mine"
    assert server.asked == []


def tar_of(path: Path, files: dict[str, bytes], kind: str = "w") -> Path:
    with tarfile.open(path, kind) as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


@pytest.mark.parametrize("kind", ["w", "w:gz"])
def test_unpacking(tmp_path, kind):
    archive = tar_of(tmp_path / "a.tar", {"Task/dataset.json": b"{}", "Task/imagesTr/a.nii": b"1"}, kind)
    assert (unpack(archive, tmp_path, folder="Task") / "imagesTr" / "a.nii").read_bytes() == b"1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Task", "a.tar"]


def test_unpacking_what_has_no_folder_of_its_own(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.txt", "1")
        archive.writestr("b.txt", "2")
    unpack(tmp_path / "a.zip", tmp_path, folder="Set")
    assert (tmp_path / "Set" / "x" / "a.txt").read_text() == "1"
    assert (tmp_path / "Set" / "b.txt").read_text() == "2"


def test_archives_that_are_damaged_or_reach_out_are_refused(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "b.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "b.tar", target, folder="Task")
    for name in ("../evil.txt", "Task/../../evil.txt", "/tmp/evil.txt", "C:\\evil.txt", "Task\\..\\..\\evil.txt"):
        archive = tar_of(tmp_path / "a.tar", {name: b"x"})
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
            packed.writestr(name, "x")
        for bad in (archive, tmp_path / "a.zip"):
            with pytest.raises(DataError, match="leads out of it"):
                unpack(bad, target, folder="Task")
    assert list(target.iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_archives_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("Task/x")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=r"it holds a (link|device)"):
        unpack(tmp_path / "a.tar", tmp_path, folder="Task")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        one = zipfile.ZipInfo("Task/x")
        one.create_system, one.external_attr = 3, 0o120777 << 16
        packed.writestr(one, "/etc/passwd")
    with pytest.raises(DataError, match="it holds a link"):
        unpack(tmp_path / "a.zip", tmp_path, folder="Task")
    assert not (tmp_path / "Task").exists()


def test_archives_that_fill_a_disk_are_refused_with_the_setting(tmp_path):
    zeros = bytes(3_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(40):
            packed.writestr(f"Task/{number}", zeros)
    tar = tar_of(tmp_path / "a.tar.gz", {f"Task/{n}": zeros for n in range(40)}, "w:gz")
    target = tmp_path / "target"
    target.mkdir()
    for bad in (tmp_path / "a.zip", tar):
        with pytest.raises(DataError, match=r"unpacks to more than 100,000,000 bytes.*max_ratio"):
            unpack(bad, target, folder="Task")
        with pytest.raises(DataError, match="max_files=N allows more"):
            unpack(bad, target, folder="Task", bounds=Bounds(files=20))
        assert list(target.iterdir()) == []
    assert (unpack(tar, target, folder="Task", bounds=Bounds(ratio=2000)) / "7").stat().st_size == len(zeros)


def test_a_member_that_is_larger_than_it_says_is_no_way_round(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("Task/x", bytes(100_000))
    body = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(body.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"larger than the archive says|cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path, folder="Task")
    assert not (tmp_path / "Task").exists()


def test_a_disk_that_refuses_is_no_fault_of_the_archive(tmp_path):
    resource = pytest.importorskip("resource")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("Task/a", bytes(1 << 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(DiskError) as said:
            unpack(tmp_path / "a.zip", tmp_path, folder="Task")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "fetch it again" not in str(said.value)
    assert not (tmp_path / "Task").exists()
