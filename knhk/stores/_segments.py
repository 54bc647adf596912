"""
The files of the log store: frames, one behind the other, in segments that were filled with zeros beforehand.

Overwriting zeros and then syncing the data is the fastest durable write that a file system offers: the file's size and blocks
do not change, so there is nothing but the data to sync.

A segment begins with `KNHKLOG1` and eight random bytes, with which every checksum in it begins, so that nothing that a caller
stores can look like a frame.
A frame is one write: magic, version, length, its number (counted through all segments), the number up to which frames were
known to be synced when it was written, the CRC-32 of all that, then the payload.
A segment is left for the next when a frame does not fit; it is synced first.
So after a crash only the frames behind the last synced one can be damaged, and they are the last: they are cut off.
Any other damage is reported with segment and offset.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from knhk.errors import StoreError, StoreUnavailable

SEGMENT_BYTES: Final = 8 * 1024 * 1024
"""The size of a segment; larger only for a frame that is itself larger."""

VERSION: Final = 1
"""The version of the frames that this code writes and reads."""

_SEGMENT_MAGIC: Final = b"KNHKLOG1"
_SEGMENT_HEAD: Final = struct.Struct("<8s8s")
_MAGIC: Final = b"KNHL"
# Magic, version, length of the payload, number, number up to which frames are synced; behind it the checksum.
_HEAD: Final = struct.Struct("<4sBIQQ")
_SUM: Final = struct.Struct("<I")
_FRAME_HEAD: Final = _HEAD.size + _SUM.size
_ZEROS: Final = bytes(1024 * 1024)


@attrs.frozen
class Frame:
    """A whole frame: its number, what it says is synced, its segment, where its payload begins there, and the payload."""

    number: int
    synced: int
    segment: int
    offset: int
    payload: bytes

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + len(self.payload)


class Segments:
    """
    The segments of one log; not safe for threads, the store's writing lock is.

    Before anything is written, `scan` must have been read to its end: it finds the place where the log goes on.

    Args:
        directory: where they are.
        sync: whether `append` returns only when the frame is synced.
        size: bytes of a new segment.
    """

    def __init__(self, directory: Path, *, sync: bool, size: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._sync = sync
        self._size = size
        self._file: int | None = None
        self._salt = b""
        self._length = 0
        self.segment = 0
        self.offset = 0
        self.number = 0
        self.synced = 0
        self._doubtful = 0
        for each in directory.glob("*.new"):
            each.unlink()

    # --- reading ------------------------------------------------------------------------------------------------------

    def scan(self, first: int, synced: int) -> Iterator[Frame]:
        """
        Yield every frame from the beginning of segment `first` on, cut what a crash left unfinished, and get ready to write.

        Args:
            first: the segment to begin with; 0 for the first there is.
            synced: the number up to which frames are known to have been synced.

        Raises:
            StoreError: a frame that was synced is damaged or missing; says the segment and the offset.
        """
        there = sorted(int(each.stem) for each in self._directory.glob("*.log"))
        for segment in [each for each in there if each >= first]:
            content = self._path(segment).read_bytes()
            self._salt = self._salt_of(segment, content)
            self.segment, self.offset = segment, _SEGMENT_HEAD.size
            while (frame := _parse(content, segment, self.offset, self._salt)) is not None:
                if (self.number or not first) and frame.number != self.number + 1:
                    raise self._damaged(f"frame {frame.number} follows frame {self.number}")
                self.number, self.offset = frame.number, frame.end
                self.synced = max(self.synced, frame.synced)
                yield frame
            if segment != there[-1]:
                if content.count(0, self.offset) != len(content) - self.offset:
                    raise self._damaged("the frame there is damaged, and later segments exist")
                continue
            self._length = len(content)
            self._finish_scan(content, synced)
        if synced > self.number:
            raise self._damaged(f"frame {self.number + 1} is missing, and was synced")

    def read(self, segment: int, offset: int, length: int) -> bytes:
        """Return bytes of a frame's payload; fewer where the file is too short."""
        file = os.open(self._path(segment), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            return os.pread(file, length, offset)
        finally:
            os.close(file)

    def _finish_scan(self, content: bytes, synced: int) -> None:
        if synced > self.number:
            raise self._damaged(f"frame {self.number + 1} is damaged or missing, and was synced")
        if content.count(0, self.offset) != len(content) - self.offset:
            place = self.offset
            while (place := content.find(_MAGIC, place + 1)) >= 0:
                later = _parse(content, self.segment, place, self._salt)
                if later is not None and later.synced > self.number:
                    raise self._damaged(f"frame {self.number + 1} is damaged, and frame {later.number} follows it")
        self._file = self._open_segment()
        if content.count(0, self.offset) != len(content) - self.offset:
            self._erase(len(content))
        # What was read may never have been synced by the process that wrote it.
        _sync(self._file)
        self.synced = self.number

    def _salt_of(self, segment: int, content: bytes) -> bytes:
        if len(content) < _SEGMENT_HEAD.size or not content.startswith(_SEGMENT_MAGIC):
            raise StoreError(f"{self._path(segment)} is damaged at offset 0: it does not begin as a segment of a log")
        return bytes(_SEGMENT_HEAD.unpack_from(content)[1])

    def _damaged(self, what: str) -> StoreError:
        return StoreError(
            f"{self._path(self.segment)} is damaged at offset {self.offset}: {what}; restore the directory from a backup"
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    def room(self, length: int) -> tuple[int, int]:
        """
        Return the segment and offset at which the payload of the next frame begins, if it is not longer than this.

        Raises:
            OSError: a new segment is needed and could not be made; nothing has happened.
            StoreUnavailable: an earlier write failed, and what it left cannot be erased.
        """
        if self._file is None or self._doubtful:
            self._recover()
        if self.offset + _FRAME_HEAD + length > self._length:
            self._next_segment(length)
        return self.segment, self.offset + _FRAME_HEAD

    def append(self, payload: bytes) -> None:
        """
        Write the next frame, for which `room` was asked, and sync it.

        Raises:
            OSError: it failed; the frame is not part of the log.
        """
        assert self._file is not None
        head = _HEAD.pack(_MAGIC, VERSION, len(payload), self.number + 1, self.synced)
        frame = b"".join((head, _SUM.pack(_checksum(self._salt, head, payload)), payload))
        self._doubtful = self.offset + len(frame)
        try:
            _write(self._file, frame, self.offset)
            if self._sync:
                _sync(self._file)
        except BaseException:
            # NOTE: a sync that failed may report success when it is asked again, and what it dropped stays lost: the file
            # is opened anew before anything else is written to it.
            with suppress(OSError, StoreUnavailable):
                self._recover()
            raise
        self._doubtful = 0
        self.offset += len(frame)
        self.number += 1
        if self._sync:
            self.synced = self.number

    def position(self) -> tuple[int, int, int]:
        """Return the last frame's segment and number, and the number up to which frames are synced."""
        return self.segment, self.number, self.synced

    def take_back(self, frame_offset: int) -> None:
        """Erase the last frame, which began here: what was to follow it failed."""
        self._doubtful, self.offset = self.offset, frame_offset
        self.number -= 1
        self.synced = min(self.synced, self.number)
        with suppress(OSError, StoreUnavailable):
            self._recover()

    def close(self) -> None:
        """Sync what was written, and close."""
        if self._file is not None:
            try:
                _sync(self._file)
            finally:
                self._forget_file()

    def _recover(self) -> None:
        """Open the segment anew, and erase what a failed write may have left."""
        self._forget_file()
        if self.segment:
            try:
                self._file = self._open_segment()
                self._erase(self._doubtful)
                _sync(self._file)
            except OSError as error:
                self._forget_file()
                raise StoreUnavailable(f"{self._path(self.segment)} cannot be written: {error}") from error
        self._doubtful = 0

    def _erase(self, end: int) -> None:
        assert self._file is not None
        for place in range(self.offset, end, len(_ZEROS)):
            _write(self._file, _ZEROS[: end - place], place)

    def _next_segment(self, length: int) -> None:
        if self._file is not None:
            _sync(self._file)
            self.synced = self.number
        size = max(self._size, _SEGMENT_HEAD.size + _FRAME_HEAD + length)
        salt = secrets.token_bytes(8)
        target = self._path(self.segment + 1)
        growing = target.with_suffix(".new")
        try:
            with growing.open("wb") as file:
                file.write(_SEGMENT_HEAD.pack(_SEGMENT_MAGIC, salt))
                for place in range(_SEGMENT_HEAD.size, size, len(_ZEROS)):
                    file.write(_ZEROS[: size - place])
                file.flush()
                _sync(file.fileno())
        except OSError:
            growing.unlink(missing_ok=True)
            raise
        growing.rename(target)
        sync_directory(self._directory)
        self._forget_file()
        self.segment += 1
        self.offset, self._length, self._salt = _SEGMENT_HEAD.size, size, salt
        self._file = self._open_segment()

    def _open_segment(self) -> int:
        return os.open(self._path(self.segment), os.O_RDWR | getattr(os, "O_CLOEXEC", 0))

    def _forget_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:08}.log"


def sync_directory(directory: Path) -> None:
    """Make new names in a directory durable."""
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _parse(content: bytes, segment: int, offset: int, salt: bytes) -> Frame | None:
    """Return the frame that begins here, or None where there is no whole one."""
    if offset + _FRAME_HEAD > len(content):
        return None
    magic, version, length, number, synced = _HEAD.unpack_from(content, offset)
    begin = offset + _FRAME_HEAD
    if magic != _MAGIC or begin + length > len(content):
        return None
    payload = content[begin : begin + length]
    (checksum,) = _SUM.unpack_from(content, offset + _HEAD.size)
    if checksum != _checksum(salt, content[offset : offset + _HEAD.size], payload):
        return None
    if version != VERSION:
        raise StoreError(f"a frame of the log has version {version}; this KNHK reads version {VERSION}: upgrade it")
    return Frame(number, synced, segment, begin, payload)


def _checksum(salt: bytes, head: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(head, zlib.crc32(salt)))


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _sync(file: int) -> None:
    if sys.platform == "darwin":
        # NOTE: there fsync alone leaves data in the drive's cache.
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(file)
