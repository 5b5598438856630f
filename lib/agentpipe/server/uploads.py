"""Multipart uploads, written to the disk as they come in: gigabytes cost no memory."""

from __future__ import annotations

import contextlib
import os
import tempfile

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from agentpipe.files import make_directories, sync_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from python_multipart.multipart import MultipartParser

    from agentpipe.server.files import Files

# bytes that go through the parser at once, in a thread
AT_ONCE = 1 << 20
MOST_HEADERS = 64 << 10


class Upload:
    """One POST: each part with a file name is a file, whose path is the part's field name."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.names: list[str] = []
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._file: Any = None
        self._target = self._growing = ""
        self._complete = False

    async def receive(self, request: Request) -> list[str]:
        """The names of what was stored; nothing of a part stays that did not come whole."""
        parser = self._parser(request.headers.get("content-type", ""))
        parts: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                parts.append(chunk)
                size += len(chunk)
                if size >= AT_ONCE:
                    await run_in_threadpool(self._write, parser, b"".join(parts))
                    parts, size = [], 0
            await run_in_threadpool(self._write, parser, b"".join(parts))
            if not self._complete:
                self._refuse("the body ends too early")
        finally:
            if self._file is not None:
                with contextlib.suppress(OSError):  # on a full disk what is still buffered cannot be written either
                    self._file.close()
                os.unlink(self._growing)
        return self.names

    def _parser(self, kind: str) -> MultipartParser:
        from python_multipart.multipart import MultipartParser, parse_options_header
        name, options = parse_options_header(kind)
        if name != b"multipart/form-data" or not options.get(b"boundary"):
            self._refuse("expected multipart/form-data")
        parser = MultipartParser(options[b"boundary"], {
            "on_part_begin": self._part_begins, "on_header_field": self._header_field,
            "on_header_value": self._header_value, "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end, "on_part_data": self._part_data,
            "on_part_end": self._part_ends, "on_end": self._ends})
        parser.logger.disabled = True  # what is wrong is told to the client; standard error is the operator's
        return parser

    def _write(self, parser: MultipartParser, data: bytes) -> None:
        from python_multipart.exceptions import FormParserError
        try:
            parser.write(data)
        except FormParserError as problem:
            self._refuse(str(problem))

    def _refuse(self, text: str) -> None:
        from agentpipe.server.files import Refused
        raise Refused(400, text)

    def _part_begins(self) -> None:
        self._headers, self._field, self._value = {}, b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self._bounded()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bounded()

    def _bounded(self) -> None:
        if len(self._field) + len(self._value) > MOST_HEADERS or len(self._headers) > 100:
            self._refuse("the headers of a part are too long")

    def _header_ends(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _headers_end(self) -> None:
        from python_multipart.multipart import parse_options_header
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"filename" not in options:
            return
        name = os.fsdecode(options.get(b"name", b"")).lstrip("/")
        self._target = self.files.located(name)
        self.names.append(name)
        number, self._growing = tempfile.mkstemp(dir=self.files.growing)
        self._file = os.fdopen(number, "wb", 1 << 18)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])

    def _part_ends(self) -> None:
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        folder = os.path.dirname(self._target)
        with self.files.placing:
            make_directories(folder)
            os.replace(self._growing, self._target)
        self._file = None
        with contextlib.suppress(FileNotFoundError):  # somebody has removed it again
            sync_directory(folder)

    def _ends(self) -> None:
        self._complete = True
