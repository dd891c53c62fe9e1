"""Sources: what `--data` resolves to, downloads against a real local server, safe unpacking, fingerprints."""

import contextlib
import hashlib
import io
import random
import stat
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.core.contract import InputError, Metric, Pipeline, Settings, Source
from pipelines.core.reading import downloads

BODY = random.Random(0).randbytes(1_000_000)


@dataclass
class Server:
    """A file server that can misbehave: cuts each connection named in `cuts` after so many bytes of body."""

    url: str = ""
    body: bytes = BODY
    status: int = 200
    ranges: bool = True
    etag: str = '"one"'
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch):
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append({name.lower(): value for name, value in self.headers.items()})
            asked = state.requests[-1].get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
            same = state.requests[-1].get("if-range", state.etag) == state.etag
            start = int(asked) if state.ranges and same else 0
            if start >= len(state.body):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if start else state.status)
            if state.length:
                self.send_header("Content-Length", str(len(state.body) - start))
            if state.etag:
                self.send_header("ETag", state.etag)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.end_headers()
            end = start + state.cuts.pop(0) if state.cuts else len(state.body)
            with contextlib.suppress(ConnectionError):  # a client that has seen enough hangs up
                self.wfile.write(state.body[start:end])

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.url = f"http://127.0.0.1:{http.server_port}/files/payments.csv?download=1"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSES", (0, 0))
    yield state
    http.shutdown()
    http.server_close()


def source(server, **changes):
    return replace(
        Source(server.url, f"sha256:{hashlib.sha256(BODY).hexdigest()}", len(BODY), "CC0", "nobody"), **changes
    )


def remains(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_download_arrives_whole_under_its_final_name_alone(server, tmp_path):
    path = downloads.fetch(source(server), tmp_path / "data" / "toy")
    assert path.read_bytes() == BODY
    assert remains(path.parent) == ["payments.csv"]
    assert server.requests[0]["accept-encoding"] == "identity"  # compressed on the way, it would have another checksum


def test_a_file_that_is_there_is_not_asked_for_again(server, tmp_path):
    downloads.fetch(source(server), tmp_path)
    downloads.fetch(source(server), tmp_path)
    assert len(server.requests) == 1


def test_an_md5_checksum_is_accepted_and_the_file_has_the_last_name_of_the_address(server, tmp_path):
    path = downloads.fetch(source(server, checksum=f"md5:{hashlib.md5(BODY).hexdigest()}"), tmp_path)
    assert path == tmp_path / "payments.csv"  # the address goes on with a query


@pytest.mark.parametrize("etag", ['"one"', ""])
def test_a_cut_connection_is_resumed_where_it_broke_off(server, tmp_path, etag):
    server.cuts, server.etag = [600_000], etag
    path = downloads.fetch(source(server), tmp_path)
    first, second = server.requests
    start = int(second["range"].removeprefix("bytes=").removesuffix("-"))
    assert "range" not in first
    assert 0 < start <= 600_000
    assert second.get("if-range", "") == etag
    assert path.read_bytes() == BODY


def test_a_part_that_nothing_vouches_for_is_not_continued(server, tmp_path):
    server.cuts, server.etag = [600_000], ""
    path = downloads.fetch(source(server, checksum=""), tmp_path)
    assert "range" not in server.requests[1]
    assert path.read_bytes() == BODY


def test_a_download_resumes_in_the_next_call(server, tmp_path):
    server.cuts = [300_000, 300_000, 300_000]
    with pytest.raises(InputError, match=r"could not be downloaded .*payments\.csv"):
        downloads.fetch(source(server), tmp_path)
    assert "payments.csv" not in remains(tmp_path)
    path = downloads.fetch(source(server), tmp_path)
    assert "range" in server.requests[-1]
    assert path.read_bytes() == BODY
    assert remains(tmp_path) == ["payments.csv"]


def test_a_file_that_changed_between_two_connections_is_not_mixed(server, tmp_path):
    server.cuts = [200_000] * 3
    changed = BODY[::-1]
    with pytest.raises(InputError):
        downloads.fetch(source(server), tmp_path)
    server.body, server.etag = changed, '"two"'
    path = downloads.fetch(source(server, checksum=""), tmp_path)
    assert path.read_bytes() == changed


def test_a_server_that_ignores_range_starts_the_file_anew(server, tmp_path):
    server.cuts, server.ranges = [600_000], False
    path = downloads.fetch(source(server), tmp_path)
    assert "range" in server.requests[1]
    assert path.read_bytes() == BODY


def test_a_part_that_is_longer_than_the_file_is_started_anew(server, tmp_path):
    (tmp_path / "payments.csv.part").write_bytes(BODY + b"more")
    assert downloads.fetch(source(server), tmp_path).read_bytes() == BODY


def test_a_cut_that_the_server_does_not_declare_is_noticed_by_the_size(server, tmp_path):
    server.cuts, server.length = [600_000], False
    assert downloads.fetch(source(server), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("changes", [{"checksum": "sha256:" + "0" * 64}, {"checksum": "", "size": len(BODY) - 1}])
def test_the_wrong_bytes_leave_nothing_behind(server, tmp_path, changes):
    with pytest.raises(InputError, match=r"not the file that was registered.*Expected .*Received: "):
        downloads.fetch(source(server, **changes), tmp_path)
    assert "payments.csv" not in remains(tmp_path)
    assert "payments.csv.part" not in remains(tmp_path)


def test_a_body_far_longer_than_declared_is_not_read_to_its_end(server, tmp_path, monkeypatch):
    written = []
    fault = downloads._fault
    monkeypatch.setattr(
        downloads, "_fault", lambda path, source: written.append(path.stat().st_size) or fault(path, source)
    )
    with pytest.raises(InputError, match="not the file that was registered"):
        downloads.fetch(source(server, size=100_000), tmp_path)
    assert written[0] < 110_000 + downloads.CHUNK + 1
    assert "payments.csv" not in remains(tmp_path)


def test_a_file_that_is_not_found_is_one_sentence_with_address_and_place(server, tmp_path):
    server.status = 404
    with pytest.raises(InputError) as error:
        downloads.fetch(source(server), tmp_path)
    assert all(part in str(error.value) for part in (server.url, "404", str(tmp_path / "payments.csv")))
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status = 503
    with pytest.raises(InputError, match="503"):
        downloads.fetch(source(server), tmp_path)
    assert len(server.requests) == len(downloads.PAUSES) + 1


def test_no_network_is_one_sentence_with_address_and_place(server, tmp_path):
    closed = "http://127.0.0.1:9/payments.csv"
    with pytest.raises(InputError) as error:
        downloads.fetch(source(server, url=closed), tmp_path)
    assert closed in str(error.value)
    assert str(tmp_path / "payments.csv") in str(error.value)


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_right_one(server, tmp_path):
    (tmp_path / "payments.csv").write_bytes(BODY)
    assert downloads.fetch(source(server), tmp_path).read_bytes() == BODY
    assert server.requests == []


@pytest.mark.parametrize("checksum", ["sha256:" + hashlib.sha256(BODY).hexdigest(), ""])
def test_a_file_put_there_by_hand_is_refused_and_kept_if_it_is_another(server, tmp_path, checksum):
    (tmp_path / "payments.csv").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"payments\.csv is not the file"):
        downloads.fetch(source(server, checksum=checksum), tmp_path)
    assert (tmp_path / "payments.csv").read_bytes() == b"mine"


# Archives


def pack(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            for name, to in (links or {}).items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(entry, to)
        return path
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, to in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            archive.addfile(entry)
    return path


FORMATS = ["x.zip", "x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_archive_is_unpacked_once(tmp_path, name):
    archive = pack(tmp_path / name, {"cat/1.txt": b"miaow", "dog/1.txt": b"woof"})
    folder = downloads.unpack(archive, tmp_path / "data")
    assert [(folder / pet / "1.txt").read_bytes() for pet in ("cat", "dog")] == [b"miaow", b"woof"]
    marker = folder / "marker"
    marker.touch()
    assert downloads.unpack(archive, tmp_path / "data") == folder
    assert marker.exists()
    assert len(list((tmp_path / "data").iterdir())) == 1


def test_an_archive_with_other_contents_under_the_same_name_is_unpacked_anew(tmp_path):
    old = downloads.unpack(pack(tmp_path / "x.zip", {"a.csv": b"old"}), tmp_path / "data")
    new = downloads.unpack(pack(tmp_path / "x.zip", {"a.csv": b"new"}), tmp_path / "data")
    assert (old.read_bytes(), new.read_bytes()) == (b"old", b"new")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
@pytest.mark.parametrize("member", ["../out.txt", "in/../../out.txt", "/tmp/out.txt", "..\\out.txt", "C:\\out.txt"])
def test_a_member_that_climbs_out_is_refused_by_name(tmp_path, name, member):
    archive = pack(tmp_path / name, {"fine.txt": b"fine", member: b"evil"})
    with pytest.raises(InputError) as error:
        downloads.unpack(archive, tmp_path / "data" / "toy")
    assert "out.txt" in str(error.value)
    assert remains(tmp_path) == sorted([name, "data", "toy"])


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
@pytest.mark.parametrize("to", ["/etc/passwd", "../../secret.txt"])
def test_a_link_that_leads_out_is_refused_by_name(tmp_path, name, to):
    (tmp_path / "secret.txt").write_text("secret")
    archive = pack(tmp_path / name, {"fine.txt": b"fine"}, links={"way.txt": to})
    with pytest.raises(InputError, match=r"way\.txt"):
        downloads.unpack(archive, tmp_path / "data")
    assert remains(tmp_path / "data") == []


def test_a_link_inside_a_tar_becomes_a_copy(tmp_path):
    archive = pack(tmp_path / "x.tar", {"a/1.txt": b"one"}, links={"b.txt": "a/1.txt"})
    copy = downloads.unpack(archive, tmp_path / "data") / "b.txt"
    assert not copy.is_symlink()
    assert copy.read_bytes() == b"one"


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar.xz"])
def test_an_archive_that_expands_without_bound_is_refused(tmp_path, name):
    archive = pack(tmp_path / name, {"zeros.bin": bytes(40 << 20)})
    assert archive.stat().st_size * 100 < 40 << 20
    with pytest.raises(InputError, match=r"without bound.*zeros\.bin"):
        downloads.unpack(archive, tmp_path / "data")
    assert remains(tmp_path / "data") == []


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_writing_stops_at_the_limit_and_not_at_the_end_of_the_member(tmp_path, name, monkeypatch):
    sizes, write = [], downloads._write
    monkeypatch.setattr(downloads, "_write", lambda *args: sizes.append(write(*args)) or sizes[-1])
    archive = pack(tmp_path / name, {"large.bin": BODY})
    with pytest.raises(InputError, match="without bound"):
        downloads.unpack(archive, tmp_path / "data", most_bytes=1_000)
    assert sizes[0] <= 1_000 + downloads.CHUNK


def test_a_link_to_a_folder_is_refused_by_name(tmp_path):
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as file:
        for name, kind, to in [("folder", tarfile.DIRTYPE, ""), ("way", tarfile.SYMTYPE, "folder")]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, to
            file.addfile(entry)
    with pytest.raises(InputError, match="no file: 'way'"):
        downloads.unpack(archive, tmp_path / "data")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("limits", [{"most_bytes": 999}, {"most_files": 9}])
def test_limits_hold_exactly(tmp_path, name, limits):
    archive = pack(tmp_path / name, {f"{i}.bin": random.Random(i).randbytes(100) for i in range(10)})
    with pytest.raises(InputError):
        downloads.unpack(archive, tmp_path / "data", **limits)
    assert remains(tmp_path / "data") == []
    assert downloads.unpack(archive, tmp_path / "data", **{name: most + 1 for name, most in limits.items()}).is_dir()


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path):
    archive = pack(tmp_path / "x.zip", {"a.bin": bytes(50_000)})
    lying = archive.read_bytes().replace((50_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(lying)
    with pytest.raises(InputError, match="cannot be unpacked"):
        downloads.unpack(archive, tmp_path / "data")
    assert remains(tmp_path / "data") == []


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"no archive at all"])
def test_a_damaged_archive_is_refused_by_name(tmp_path, name, damage):
    archive = pack(tmp_path / name, {f"{i}.bin": random.Random(i).randbytes(3_000) for i in range(10)})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(InputError, match=f"{name} cannot be unpacked"):
        downloads.unpack(archive, tmp_path / "data")
    assert remains(tmp_path / "data") == []


# Resolve and fingerprints


@pytest.fixture
def toy():
    registered = {
        name: Source(f"http://127.0.0.1:9/{name}.csv", "", 0, "CC0", "nobody") for name in ("creditcard", "bank")
    }
    return Pipeline("toy", "Toy", Settings, Metric("roc_auc"), (), registered)


def test_demo_needs_no_path(toy, tmp_path):
    assert downloads.resolve("demo", toy, tmp_path) == downloads.Origin("demo", "demo", None)


def test_a_pipeline_may_have_several_demos(toy, tmp_path):
    several = replace(toy, demos={"demo": "It is real.", "noise": "It is noise."})
    assert downloads.resolve("noise", several, tmp_path) == downloads.Origin("demo", "noise", None)
    with pytest.raises(InputError, match=r"did you mean noise\? .* takes demo, noise, "):
        downloads.resolve("noize", several, tmp_path)


def test_a_registered_name_is_fetched_into_the_folder_of_the_pipeline(toy, tmp_path):
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "bank.csv").write_text("a\n1\n")
    origin = downloads.resolve("bank", toy, tmp_path)
    assert origin == downloads.Origin("public", "bank", tmp_path / "data" / "toy" / "bank.csv")


@pytest.mark.parametrize("name", ["march.csv", "march.parquet", "march.csv.gz"])
def test_an_own_file_is_named_after_its_stem(toy, tmp_path, name):
    (tmp_path / name).touch()
    assert downloads.resolve(str(tmp_path / name), toy, tmp_path) == downloads.Origin("own", "march", tmp_path / name)


def test_an_own_archive_is_unpacked_below_data_and_a_lone_file_in_it_found(toy, tmp_path):
    archive = pack(tmp_path / "march.zip", {"payments.csv": b"a\n1\n", "__MACOSX/._payments.csv": b""})
    origin = downloads.resolve(str(archive), toy, tmp_path)
    assert (origin.kind, origin.name) == ("own", "march")
    assert origin.path.read_bytes() == b"a\n1\n"
    assert origin.path.is_relative_to(tmp_path / "data" / "toy")


def test_an_own_folder_is_taken_as_it_is(toy, tmp_path):
    (tmp_path / "photos.zip").mkdir()
    assert downloads.resolve(str(tmp_path / "photos.zip"), toy, tmp_path).path == tmp_path / "photos.zip"


@pytest.mark.parametrize(("typed", "close"), [("creditcrad", "creditcard"), ("dmeo", "demo")])
def test_an_unknown_name_is_answered_with_all_names_and_the_close_one(toy, tmp_path, typed, close):
    with pytest.raises(
        InputError, match=rf"No such data: '{typed}', did you mean {close}\? .*demo, creditcard, bank or a path"
    ):
        downloads.resolve(typed, toy, tmp_path)


def test_no_data_at_all_are_answered_with_all_names(toy, tmp_path):
    with pytest.raises(InputError, match=r"No such data: ''\. .*demo, creditcard, bank or a path"):
        downloads.resolve("", toy, tmp_path)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("nofile.csv", "No such file: nofile.csv."),
        ("creditcard.csv", "No such file: creditcard.csv."),
        ("mrach.csv", "No such file: mrach.csv; did you mean march.csv?"),
        ("photos/cat", "No such file: photos/cat; did you mean photos/cats?"),
        ("no/such/file.parquet", "No such file: no/such/file.parquet, since there is no folder no/such."),
    ],
)
def test_a_missing_file_is_said_with_those_of_a_similar_name(toy, tmp_path, monkeypatch, typed, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "march.csv").touch()
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    with pytest.raises(InputError) as refused:
        downloads.resolve(typed, toy, tmp_path)
    assert str(refused.value) == told
    with pytest.raises(InputError, match=r"^No such file: "):
        downloads.existing(typed)


def test_the_fingerprint_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "a").write_bytes(BODY)
    assert downloads.sha256(tmp_path / "a") == hashlib.sha256(BODY).hexdigest()


def test_the_fingerprint_of_a_folder_sees_names_and_contents_and_nothing_else(tmp_path):
    def folder(name, files):
        for file, content in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(content)
        return downloads.sha256(tmp_path / name)

    same = folder("one", [("a/x", b"1"), ("b", b"2")])
    assert folder("two", [("b", b"2"), ("a/x", b"1")]) == same
    others = [folder("three", [("a/x", b"2"), ("b", b"1")]), folder("four", [("a/y", b"1"), ("b", b"2")])]
    assert len({same, *others}) == 3
