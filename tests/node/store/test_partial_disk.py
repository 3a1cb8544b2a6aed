from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import filelock
import pytest

from node.store import disk as disk_module
from node.store import partial_disk
from node.store.errors import FileInTheWay, PartialInUse, WrongContent
from node.store.hashing import ignore_progress
from node.store.partial_disk import _WRONG_MAX, PartialDisk, WantedFile
from node.store.partial_files import take_back
from node.store.partial_lock import PartialLock
from node.store.positioned_file import PositionedFile
from p2p.blobs.errors import ChunkUnavailable, SinkFailed, SinkFull
from tests.node.store.chunked_files import CHUNK, SomeFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models" / "big.gguf"


def opened(path: Path, wanted: WantedFile, read: list[int] | None = None) -> PartialDisk:
    """The partial file; `read` hears how far it had to be read."""
    return PartialDisk(path, wanted, ignore_progress if read is None else read.append)


def write(disk: PartialDisk, file: SomeFile, *chunks: int) -> None:
    for chunk in chunks or range(file.count):
        data = file.chunk(chunk)
        disk.write(chunk, [data[:1], data[1:70_000], data[70_000:]])


def crash(disk: PartialDisk) -> None:
    """As if the process was gone: nothing is said to anybody."""
    disk._let_go(for_good=False)


def part(path: Path, suffix: str = "") -> Path:
    return path.with_name(f".{path.name}.partial{suffix}")


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def damage(path: Path, offset: int, data: bytes = b"damaged") -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def failing(number: int, *, after: int = 10**9) -> Callable[[PositionedFile, int, int, memoryview], int]:
    """A write that stores `after` bytes in all and then fails."""
    left = after

    def fail(_: PositionedFile, descriptor: int, offset: int, data: memoryview) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(number, os.strerror(number))
        written = os.pwrite(descriptor, data[:left], offset)
        left -= written
        return written

    return fail


def test_chunks_in_any_order_make_the_file(path: Path, some_file: SomeFile) -> None:
    order = list(range(some_file.count))
    Random(1).shuffle(order)
    disk = opened(path, some_file.wanted)
    for chunk in order:
        assert not path.exists()
        write(disk, some_file, chunk)
        assert disk.read(chunk) == some_file.chunk(chunk)
    hashes = disk.finish(some_file.sha256, ignore_progress)
    assert path.read_bytes() == some_file.content
    assert (hashes.sha256, hashes.chunks, hashes.path) == (some_file.sha256, some_file.hashes, path)
    assert hashes.fingerprint.size_bytes == len(some_file.content)
    assert names(path) == ["big.gguf"]


def test_a_chunk_that_is_lost_before_the_end_fails_it_and_nothing_else(
    path: Path, some_file: SomeFile
) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file)
    with part(path).open("r+b") as file:
        file.write(b"\0\0\0\0")
    with pytest.raises(ChunkUnavailable):
        disk.read(0)
    with pytest.raises(SinkFailed, match=r"did not give back 1 of the 10 chunks of big\.gguf"):
        disk.finish(some_file.sha256, ignore_progress)
    write(disk, some_file, 0)
    assert disk.finish(some_file.sha256, ignore_progress).sha256 == some_file.sha256


def test_what_comes_without_hashes_gets_them(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.unhashed)
    data = some_file.chunk(3)
    assert disk.write(3, [data[:5], data[5:]]) == some_file.hashes[96:128]
    write(disk, some_file)
    hashes = disk.finish("", ignore_progress)
    assert (hashes.sha256, hashes.chunks) == (some_file.sha256, some_file.hashes)


def test_it_takes_no_room_for_what_has_not_come(path: Path) -> None:
    file = SomeFile(1000)
    disk = opened(path, file.wanted)
    write(disk, file, 999)
    status = part(path).stat()
    assert status.st_size == len(file.content)
    assert status.st_blocks * 512 < 100 * CHUNK
    disk.close()


def test_what_was_left_in_order_need_not_be_read(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 0, 1, 5)
    disk.close()
    read: list[int] = []
    disk = opened(path, some_file.wanted, read)
    assert disk.there == {0, 1, 5}
    assert read == []
    write(disk, some_file, 2, 3, 4, *range(6, 10))
    assert disk.finish(some_file.sha256, ignore_progress).sha256 == some_file.sha256


def test_after_a_crash_what_came_is_read_and_counts(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.unhashed)
    write(disk, some_file, 0, 1, 5, 9)
    crash(disk)
    read: list[int] = []
    disk = opened(path, some_file.unhashed, read)
    assert disk.there == {0, 1, 5, 9}
    assert read == [CHUNK, 2 * CHUNK, 6 * CHUNK, len(some_file.content)]
    assert disk.hashes[:64] == some_file.hashes[:64]
    disk.close()


def test_a_chunk_that_is_not_what_the_map_says_does_not_count(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.unhashed)
    write(disk, some_file, 0, 1, 5)
    crash(disk)
    damage(part(path), CHUNK + 7)
    assert opened(path, some_file.unhashed).there == {0, 5}


def test_who_wrote_to_it_after_it_was_left_in_order_is_noticed(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file)
    disk.close()
    damage(part(path), 0)
    later = part(path).stat().st_mtime_ns + 10**9
    os.utime(part(path), ns=(later, later))
    assert opened(path, some_file.wanted).there == set(range(1, 10))


def test_without_its_map_the_data_is_found_by_the_manifest(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 2, 3)
    crash(disk)
    part(path, ".map").unlink()
    assert opened(path, some_file.wanted).there == {2, 3}


def test_without_its_map_nothing_is_known_of_a_download(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.unhashed)
    write(disk, some_file, 2, 3)
    crash(disk)
    part(path, ".map").unlink()
    assert opened(path, some_file.unhashed).there == set()


@pytest.mark.parametrize("size", [0, 1, 100, 4095, 4096, 4200])
def test_a_map_that_was_cut_off_makes_nothing_wrong_count(path: Path, some_file: SomeFile, size: int) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 2, 3)
    disk.close()
    os.truncate(part(path, ".map"), size)
    disk = opened(path, some_file.wanted)
    assert disk.there == {2, 3}
    write(disk, some_file)
    disk.finish(some_file.sha256, ignore_progress)
    assert path.read_bytes() == some_file.content


def test_another_version_at_the_source_starts_anew(path: Path, some_file: SomeFile) -> None:
    unknown = replace(some_file.unhashed, sha256="")
    disk = opened(path, replace(unknown, version="monday"))
    write(disk, some_file, 2, 3)
    disk.close()
    assert opened(path, replace(unknown, version="tuesday")).there == set()


def test_what_the_sha256_will_tell_is_gone_on_with_in_whichever_version_it_came(
    path: Path, some_file: SomeFile
) -> None:
    disk = opened(path, replace(some_file.unhashed, version="monday"))
    write(disk, some_file, 2, 3)
    disk.close()
    assert opened(path, some_file.unhashed).there == {2, 3}


def test_a_finished_file_can_come_in_again_and_is_looked_at(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file)
    disk.finish(some_file.sha256, ignore_progress)
    take_back(path)
    assert not path.exists()
    assert opened(path, some_file.wanted).there == set(range(some_file.count))


def test_of_another_version_with_hashes_what_is_the_same_stays(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file)
    disk.close()
    newer = SomeFile(10)
    newer.content = newer.chunk(0) + SomeFile(9, seed=2).content
    hashes = some_file.hashes[:32] + SomeFile(9, seed=2).hashes
    disk = opened(path, WantedFile(newer.wanted.key, len(newer.content), "", hashes))
    assert disk.there == {0}
    write(disk, newer, *range(1, 10))
    disk.finish("", ignore_progress)
    assert path.read_bytes() == newer.content


def test_a_file_that_is_not_the_promised_one_is_never_there(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, replace(some_file.wanted, sha256="ab" * 32))
    write(disk, some_file)
    with pytest.raises(WrongContent, match=some_file.sha256):
        disk.finish("ab" * 32, ignore_progress)
    assert names(path) == []


def test_what_is_there_already_is_left_alone(path: Path, some_file: SomeFile) -> None:
    path.parent.mkdir()
    path.write_bytes(b"the user's own")
    with pytest.raises(FileInTheWay):
        opened(path, some_file.wanted)
    assert path.read_bytes() == b"the user's own"
    assert names(path) == ["big.gguf"]


@pytest.mark.parametrize("links_work", [True, False])
def test_what_came_meanwhile_is_left_alone(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch, links_work: bool
) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file)
    path.write_bytes(b"the user's own")
    if not links_work:
        monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    with pytest.raises(FileInTheWay):
        disk.finish(some_file.sha256, ignore_progress)
    assert path.read_bytes() == b"the user's own"


def refusing(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_file_system_without_links_gets_the_file_too(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    disk = opened(path, some_file.wanted)
    write(disk, some_file)
    disk.finish(some_file.sha256, ignore_progress)
    assert path.read_bytes() == some_file.content
    assert names(path) == ["big.gguf"]


def test_a_crash_between_its_two_names_leaves_the_right_one(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file)
    crash(disk)
    os.link(part(path), path)
    with pytest.raises(FileInTheWay):
        opened(path, some_file.wanted)
    assert names(path) == ["big.gguf"]
    assert path.read_bytes() == some_file.content


@pytest.mark.parametrize("suffix", ["", ".map"])
@pytest.mark.parametrize("make_link", [os.symlink, os.link])
def test_nothing_is_written_through_a_link(
    tmp_path: Path, path: Path, some_file: SomeFile, make_link: Callable[[Path, Path], None], suffix: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    path.parent.mkdir()
    make_link(precious, part(path, suffix))
    with pytest.raises(SinkFailed, match=r"link|second name"):
        opened(path, some_file.wanted)
    assert precious.read_bytes() == b"precious"


def test_a_link_that_leads_nowhere_is_in_the_way(tmp_path: Path, path: Path, some_file: SomeFile) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileInTheWay):
        opened(path, some_file.wanted)
    assert not (tmp_path / "elsewhere").exists()


def test_one_writes_at_a_time(path: Path, some_file: SomeFile) -> None:
    first = opened(path, some_file.wanted)
    write(first, some_file, 1)
    with pytest.raises(PartialInUse, match=r"somebody else is writing .*\.big\.gguf\.partial"):
        opened(path, some_file.wanted)
    first.close()
    assert opened(path, some_file.wanted).there == {1}


def test_what_another_process_writes_is_left_alone(path: Path, some_file: SomeFile) -> None:
    path.parent.mkdir()
    hold = "\n".join(
        (
            *("import sys, filelock", "lock = filelock.FileLock(sys.argv[1])"),
            *("lock.acquire()", "print('held', flush=True)", "input()"),
        )
    )
    command = [sys.executable, "-c", hold, str(part(path, ".lock"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(PartialInUse):
            opened(path, some_file.wanted)
        assert not part(path).exists()
        process.communicate("\n", timeout=30)
    opened(path, some_file.wanted).close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_locks_do_not_work_the_first_hears_of_the_second(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(filelock.FileLock, "acquire", refusing(number))
    first = opened(path, some_file.wanted)
    write(first, some_file, 1)
    second = opened(path, some_file.wanted)
    assert second.there == {1}
    with pytest.raises(SinkFailed, match="another node has begun to write"):
        write(first, some_file, 2)
    first.close()
    write(second, some_file)
    second.finish(some_file.sha256, ignore_progress)
    assert path.read_bytes() == some_file.content


def test_a_partial_file_that_somebody_deleted_fails(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 1)
    part(path).unlink()
    with pytest.raises(SinkFailed, match="another node"):
        write(disk, some_file, 2)
    disk.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_full_in_the_middle_of_a_chunk_keeps_what_came_before(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(PositionedFile, "_write", failing(number, after=CHUNK // 2))
        with pytest.raises(SinkFull, match="is full: make room"):
            write(disk, some_file, 2)
    assert disk.there == {0, 1}
    crash(disk)
    disk = opened(path, some_file.wanted)
    assert disk.there == {0, 1}
    write(disk, some_file, *range(2, 10))
    disk.finish(some_file.sha256, ignore_progress)
    assert path.read_bytes() == some_file.content


def test_a_disk_without_room_is_refused_beforehand(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "DISK_RESERVE", 2**60)
    with pytest.raises(SinkFull, match="bytes left: 40860 more are needed"):
        opened(path, some_file.wanted)
    assert names(path) == []


def test_a_disk_that_others_fill_is_noticed_before_the_reserve_is_gone(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 0)
    monkeypatch.setattr(disk_module, "DISK_RESERVE", 2**60)
    with pytest.raises(SinkFull):
        write(disk, some_file, 1)
    assert disk.there == {0}
    disk.close()
    with pytest.raises(SinkFull):
        opened(path, some_file.wanted)
    assert part(path).exists(), "what came is kept until there is room"


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.EROFS, "cannot be written: Read-only"), (errno.EACCES, "denied"), (errno.EFBIG, "of that size")],
)
def test_a_disk_that_takes_nothing_says_why(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    disk = opened(path, some_file.wanted)
    monkeypatch.setattr(PositionedFile, "_write", failing(number, after=0))
    with pytest.raises(SinkFailed, match=says):
        write(disk, some_file, 2)
    assert disk.there == set()


def test_what_the_disk_could_not_be_made_to_keep_does_not_count(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_disk, "_SYNC_CHUNKS", 4)
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 0, 1, 2, 3, 4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refusing(errno.EIO))
        with pytest.raises(SinkFailed):
            write(disk, some_file, 5, 6, 7)
    assert disk.there == {0, 1, 2, 3}
    with pytest.raises(SinkFailed, match="could not be put on the disk"):
        write(disk, some_file, 8)
    disk.close()
    # The data is in memory still, and the disk may have anything: only what it said it has is believed.
    assert opened(path, some_file.wanted).there == {0, 1, 2, 3}


def test_data_is_on_the_disk_before_the_file_has_its_name(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, link = os.fsync, os.link

    def note_fsync(descriptor: int) -> None:
        order.append("folder" if os.path.samestat(os.fstat(descriptor), path.parent.stat()) else "file")
        fsync(descriptor)

    def note_link(source: Path, target: Path) -> None:
        order.append("name")
        link(source, target)

    disk = opened(path, some_file.wanted)
    write(disk, some_file)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "link", note_link)
    disk.finish(some_file.sha256, ignore_progress)
    assert order == ["file", "name", "folder"]


def test_a_chunk_that_rots_is_not_given_out_and_does_not_count(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 0, 1)
    damage(part(path), CHUNK + 7)
    with pytest.raises(ChunkUnavailable, match="not what was written"):
        disk.read(1)
    assert disk.there == {0}
    assert disk.read(0) == some_file.chunk(0)
    write(disk, some_file)
    disk.finish(some_file.sha256, ignore_progress)
    assert path.read_bytes() == some_file.content


def test_a_disk_that_gives_back_something_else_each_time_ends_it(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 1)
    for _ in range(_WRONG_MAX + 1):
        write(disk, some_file, 0)
        damage(part(path), 0)
        for _ in range(2):
            with pytest.raises(ChunkUnavailable):
                disk.read(0)
    with pytest.raises(SinkFailed, match="does not give back what was written"):
        write(disk, some_file, 0)
    disk.close()
    again = opened(path, some_file.wanted)
    assert again.there == {1}
    write(again, some_file, 0)
    again.close()


def test_a_chunk_that_comes_otherwise_the_second_time_is_what_the_sha256_is_of(
    path: Path, some_file: SomeFile
) -> None:
    disk = opened(path, some_file.unhashed)
    first = b"?" * CHUNK
    disk.write(0, [first])
    write(disk, some_file, 1)
    damage(part(path), 7)
    with pytest.raises(ChunkUnavailable):
        disk.read(0)
    write(disk, some_file, *{*range(some_file.count)} - {1})
    assert disk.finish(some_file.sha256, ignore_progress).sha256 == some_file.sha256
    assert path.read_bytes() == some_file.content


def test_the_disk_and_nobody_else_is_blamed_for_what_it_changed(path: Path, some_file: SomeFile) -> None:
    for wanted in (some_file.wanted, some_file.unhashed):
        disk = opened(path, wanted)
        write(disk, some_file, *range(1, some_file.count))
        damage(part(path), 3 * CHUNK)
        write(disk, some_file, 0)
        with pytest.raises(SinkFailed, match=r"did not give back 1 of the 10 chunks of big\.gguf"):
            disk.finish(some_file.sha256, ignore_progress)
        write(disk, some_file, 3)
        disk.finish(some_file.sha256, ignore_progress)
        assert path.read_bytes() == some_file.content
        path.unlink()


def test_what_is_closed_takes_and_gives_nothing(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 0)
    disk.close()
    with pytest.raises(SinkFailed):
        write(disk, some_file, 1)
    with pytest.raises(ChunkUnavailable):
        disk.read(0)
    disk.close()


def test_a_look_at_a_chunk_that_is_on_its_way_does_not_take_it_away(path: Path, some_file: SomeFile) -> None:
    disk = opened(path, some_file.unhashed)
    with pytest.raises(ChunkUnavailable, match="has not come"):
        disk.read(3)
    write(disk, some_file, 3)
    crash(disk)
    assert opened(path, some_file.unhashed).there == {3}


def test_closing_waits_for_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a closed file is soon another file's, and a late write would be in that one."""
    at_it, go_on = threading.Event(), threading.Event()

    def slow(_: PositionedFile, descriptor: int, offset: int, data: memoryview) -> int:
        at_it.set()
        assert go_on.wait(10)
        return os.pwrite(descriptor, data, offset)

    monkeypatch.setattr(PositionedFile, "_write", slow)
    file = PositionedFile(tmp_path / "file")
    writer = threading.Thread(target=file.write, args=(0, b"all of it"))
    writer.start()
    assert at_it.wait(10)
    closer = threading.Thread(target=file.close)
    closer.start()
    assert os.fstat(file._descriptor).st_nlink == 1
    go_on.set()
    for thread in (writer, closer):
        thread.join(10)
    assert (tmp_path / "file").read_bytes() == b"all of it"
    with pytest.raises(OSError, match="closed"):
        file.write(0, b"more")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 20 chunks, where one can be made."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={20 * CHUNK}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_full_disk_is_gone_on_with_when_there_is_room(
    small_disk: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_disk / "big.gguf"
    disk = opened(path, some_file.wanted)
    write(disk, some_file, 0, 1)
    # Others fill it between the look at its room and the write.
    monkeypatch.setattr(partial_disk, "require_room", lambda *_: None)
    (small_disk / "other").write_bytes(bytes(12 * CHUNK))
    with pytest.raises(SinkFull):
        write(disk, some_file, *range(2, 10))
    came = set(disk.there)
    assert {0, 1} <= came < set(range(10))
    disk.close()
    (small_disk / "other").unlink()
    disk = opened(path, some_file.wanted)
    assert disk.there == came
    write(disk, some_file)
    disk.finish(some_file.sha256, ignore_progress)
    assert path.read_bytes() == some_file.content


def test_a_real_read_only_disk_says_so(small_disk: Path, some_file: SomeFile) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(SinkFailed, match="Read-only"):
        opened(small_disk / "big.gguf", some_file.wanted)


def test_a_lock_that_nothing_is_left_to_lock_is_gone() -> None:
    with TemporaryDirectory() as folder:
        lock = PartialLock(Path(folder) / ".x.partial.lock")
        lock.release(for_good=True)
        assert list(Path(folder).iterdir()) == []
