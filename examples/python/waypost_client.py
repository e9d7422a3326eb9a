"""A small Waypost client, written from docs/protocol.md alone.

It shows what a client needs: QUIC (aioquic), the frames, records with their checksum, and a few
protobuf messages written by hand. It publishes, consumes and acks. Left out: reconnecting,
subscribers and management; section numbers in comments are those of docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aioquic.asyncio.client import connect as quic_connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

ALPN = "waypost/1"
PORT = 9297
KEEP_ALIVE_S = 5
FRAME_BYTES_MAX = 2 << 20

HELLO, WELCOME, ERROR, OPEN_PUBLISHER, OPEN_CONSUMER = 0x01, 0x02, 0x03, 0x04, 0x05
OPENED, GOAWAY, CLOSED = 0x07, 0x0A, 0x0B
PUBLISH, CONFIRM, DELIVER, CREDIT, ACK, NACK = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
KNOWN = {*range(0x01, 0x0C), *range(0x10, 0x1F)}

LEVELS = ("received", "stored", "mirrored")
KINDS = ("dropped", "dead-lettered", "unroutable", "refused", "duplicate")


class ProtocolError(Exception):
    """The node sent what the protocol does not allow."""


class Refused(Exception):
    """The node said ERROR, reset a stream, or closed the connection with a code."""

    def __init__(self, code: int, message: str, retryable: bool = False):
        super().__init__(f"code {code}: {message}")
        self.code, self.message, self.retryable = code, message, retryable


# --- bytes: section 2 ---------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """An integer as in RFC 9000, section 16."""
    for prefix, length in ((0, 1), (1, 2), (2, 4), (3, 8)):
        bits = 8 * length - 2
        if value < 1 << bits:
            return (value | prefix << bits).to_bytes(length, "big")
    raise ValueError(f"{value} is above 2^62 - 1")


class Reader:
    """Reads integers and byte strings; EOFError where the bytes end too early."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise EOFError(f"byte {self.at}: {count} more expected")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        start = self.at
        length = 1 << (self.u8() >> 6)
        self.at = start
        return int.from_bytes(self.take(length), "big") & ((1 << (8 * length - 2)) - 1)

    def prefixed(self) -> bytes:
        return self.take(self.varint())

    def more(self) -> bool:
        return self.at < len(self.data)


def frame(kind: int, payload: bytes) -> bytes:
    return varint(kind) + varint(len(payload)) + payload


# --- protobuf, as much as is needed: section 2 --------------------------------------------------


def proto(**fields: int | str) -> bytes:
    """A message of the fields f1, f2 …; ints are varints, strings length-delimited."""
    out = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, str):
            data = value.encode()
            out += proto_varint(number << 3 | 2) + proto_varint(len(data)) + data if data else b""
        elif value:
            out += proto_varint(number << 3) + proto_varint(value)
    return out


def proto_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def parse_proto(data: bytes) -> dict[int, int | bytes]:
    """Field numbers to values; of a repeated field the last. Unknown fields are the caller's to
    ignore."""
    reader, found = Reader(data), {}

    def number() -> int:
        value = shift = 0
        while True:
            byte = reader.u8()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while reader.more():
        key = number()
        kind = key & 7
        if kind == 0:
            found[key >> 3] = number()
        elif kind in (1, 5):
            found[key >> 3] = reader.take(8 if kind == 1 else 4)
        elif kind == 2:
            found[key >> 3] = reader.take(number())
        else:
            raise ProtocolError(f"protobuf field kind {kind}")
    return found


# --- records: section 4 -------------------------------------------------------------------------


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# Field ids whose tags have the lowest bit set: topic, namespace, not before.
CRITICAL = {1, 2, 8}
TEXT = {1: "topic", 2: "namespace", 4: "content_type"}
BYTES = {3: "key", 10: "message_id", 30: "payload"}
IGNORED = {5, 6, 7, 8, 9, 11, 12, 13, 14}


@dataclass
class Message:
    topic: str
    payload: bytes = b""
    namespace: str | None = None
    key: bytes | None = None
    content_type: str | None = None
    message_id: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)

    def encode(self) -> bytes:
        """The body of a record."""
        values = [(1, self.topic.encode())]
        if self.namespace is not None:
            values.append((2, self.namespace.encode()))
        if self.key is not None:
            values.append((3, self.key))
        if self.content_type is not None:
            values.append((4, self.content_type.encode()))
        if self.message_id is not None:
            values.append((10, self.message_id))
        for name, value in self.headers:
            values.append((20, varint(len(name.encode())) + name.encode() + value))
        if self.payload:
            values.append((30, self.payload))
        fields = b"".join(
            varint(id * 2 + (id in CRITICAL)) + varint(len(value)) + value for id, value in values
        )
        return b"\x01" + crc32c(fields).to_bytes(4, "little") + fields

    @staticmethod
    def decode(body: bytes) -> Message:
        if len(body) < 5 or body[0] != 1:
            raise ProtocolError("not a record of version 1")
        if int.from_bytes(body[1:5], "little") != crc32c(body[5:]):
            raise ProtocolError("a record does not match its checksum")
        message, reader = Message(""), Reader(body[5:])
        while reader.more():
            tag, value = reader.varint(), reader.prefixed()
            id = tag >> 1
            if id in TEXT:
                setattr(message, TEXT[id], value.decode())
            elif id in BYTES:
                setattr(message, BYTES[id], value)
            elif id == 20:
                inner = Reader(value)
                name = inner.prefixed().decode()
                message.headers.append((name, value[inner.at :]))
            elif id not in IGNORED and tag & 1:
                raise ProtocolError(f"critical field {id} is unknown")
        return message


def slab(bodies: list[bytes]) -> bytes:
    return b"".join(varint(len(body)) + body for body in bodies)


# --- connection: sections 1 and 3 ---------------------------------------------------------------


class _Quic(QuicConnectionProtocol):
    """Remembers why a stream was reset or the connection ended."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ended: Refused | None = None
        self.resets: dict[int, int] = {}

    def quic_event_received(self, event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.ended = Refused(event.error_code, event.reason_phrase or "connection closed")
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        super().quic_event_received(event)


class Stream:
    """A stream as frames."""

    def __init__(self, quic: _Quic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.quic, self.reader, self.writer = quic, reader, writer
        self.id = writer.get_extra_info("stream_id")

    def send(self, kind: int, payload: bytes) -> None:
        self.writer.write(frame(kind, payload))

    def finish(self) -> None:
        self.writer.write_eof()

    async def _varint(self) -> int:
        first = await self.reader.readexactly(1)
        rest = await self.reader.readexactly((1 << (first[0] >> 6)) - 1)
        return Reader(first + rest).varint()

    async def next(self) -> tuple[int, Reader]:
        """The next frame; ERROR is raised as Refused."""
        try:
            while True:
                kind, length = await self._varint(), await self._varint()
                if length > FRAME_BYTES_MAX:
                    raise ProtocolError(f"frame {kind:#x} has {length} bytes")
                payload = await self.reader.readexactly(length)
                if kind == ERROR:
                    error = parse_proto(payload)
                    text = bytes(error.get(2, b"")).decode(errors="replace")
                    raise Refused(error.get(1, 0), text, bool(error.get(3, 0)))
                if kind in KNOWN:
                    return kind, Reader(payload)
                if not 0x20 <= kind < 0x40:
                    raise ProtocolError(f"unknown frame type {kind:#x}")
        except asyncio.IncompleteReadError as error:
            if self.quic.ended:
                raise self.quic.ended from None
            if self.id in self.quic.resets:
                raise Refused(self.quic.resets[self.id], "the node reset the stream") from None
            raise ProtocolError("the node ended the stream") from error

    async def expect(self, kind: int) -> Reader:
        got, payload = await self.next()
        if got != kind:
            raise ProtocolError(f"frame {got:#x}, expected {kind:#x}")
        return payload


class Client:
    """Use `connect`."""

    def __init__(self, quic: _Quic):
        self.quic = quic
        self.welcome: dict[int, int | bytes] = {}
        self.draining = False
        self._tasks: list[asyncio.Task] = []

    async def _open(self, kind: int, payload: bytes) -> Stream:
        reader, writer = await self.quic.create_stream()
        stream = Stream(self.quic, reader, writer)
        stream.send(kind, payload)
        return stream

    async def _greet(self, name: str, token: str) -> None:
        # `versions` is a packed list of one number, 1.
        hello = b"\x0a\x01\x01" + proto(f2=name, f3=token)
        self.control = await self._open(HELLO, hello)
        self.welcome = parse_proto((await self.control.expect(WELCOME)).data)
        if self.welcome.get(1) != 1:
            raise ProtocolError(f"version {self.welcome.get(1)}")
        self._tasks = [
            asyncio.create_task(self._keep_alive()),
            asyncio.create_task(self._watch()),
        ]

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            await self.quic.ping()

    async def _watch(self) -> None:
        try:
            while (await self.control.next())[0] == GOAWAY:
                self.draining = True
        except (Refused, ProtocolError):
            # Whoever waits for another stream learns of it there.
            pass

    async def publisher(self, name: str = "") -> Publisher:
        stream = await self._open(OPEN_PUBLISHER, proto(f1=name))
        opened = parse_proto((await stream.expect(OPENED)).data)
        messages = self.welcome.get(7, 0) or 256
        size = self.welcome.get(8, 0) or 1 << 20
        return Publisher(stream, opened.get(1, 0), opened.get(2, 0), messages, size)

    async def consumer(self, queue: str, group: str, credit: int = 256) -> Consumer:
        stream = await self._open(OPEN_CONSUMER, proto(f1=queue, f2=group))
        await stream.expect(OPENED)
        return Consumer(stream, credit)


@asynccontextmanager
async def connect(
    host: str,
    port: int = PORT,
    *,
    ca: str,
    cert: str | None = None,
    key: str | None = None,
    token: str = "",
    server_name: str | None = None,
    name: str = "waypost-python",
):
    """A connected client; `ca`, `cert` and `key` are PEM files."""
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[ALPN],
        server_name=server_name or host,
        verify_mode=ssl.CERT_REQUIRED,
        idle_timeout=30.0,
        max_stream_data=2 << 20,
        max_data=8 << 20,
    )
    configuration.load_verify_locations(cafile=ca)
    if cert:
        configuration.load_cert_chain(cert, key)
    async with quic_connect(
        host, port, configuration=configuration, create_protocol=_Quic
    ) as quic:
        client = Client(quic)
        try:
            await client._greet(name, token)
            yield client
        finally:
            for task in client._tasks:
                task.cancel()
            quic.close(error_code=0, reason_phrase="done")


# --- publishing: section 5 ----------------------------------------------------------------------


@dataclass
class Confirmed:
    level: str
    """dropped, dead-lettered, unroutable or refused; None where all is simple."""
    exception: str | None = None
    text: str = ""


class Publisher:
    """Publishes batches within the node's window. For one task at a time."""

    def __init__(self, stream: Stream, sequence: int, size: int, batch: int, batch_bytes: int):
        self.stream, self.window, self.window_bytes = stream, sequence, size
        self.batch, self.batch_bytes = batch, batch_bytes
        self.sent = self.sent_bytes = self.settled = 0
        self.confirmed: dict[int, Confirmed] = {}

    async def publish(self, messages: list[Message]) -> list[Confirmed]:
        """Publishes all, in order, and waits until each is settled."""
        first = self.sent + 1
        waiting = deque(message.encode() for message in messages)
        while waiting or self.settled < self.sent:
            bodies = self._fitting(waiting)
            if bodies:
                data = slab(bodies)
                self.stream.send(PUBLISH, varint(self.sent + 1) + varint(len(bodies)) + data)
                self.sent += len(bodies)
                self.sent_bytes += len(data)
            else:
                await self._confirm()
        return [self.confirmed.pop(first + i) for i in range(len(messages))]

    def _fitting(self, waiting: deque[bytes]) -> list[bytes]:
        bodies, size = [], 0
        while waiting and len(bodies) < self.batch and self.sent + len(bodies) < self.window:
            length = len(waiting[0]) + len(varint(len(waiting[0])))
            room = self.window_bytes - self.sent_bytes - size
            # A single record may pass the limits, but only alone.
            alone = not bodies and self.settled == self.sent and room > 0
            if not alone and length > room or bodies and size + length > self.batch_bytes:
                break
            bodies.append(waiting.popleft())
            size += length
        return bodies

    async def _confirm(self) -> None:
        reader = await self.stream.expect(CONFIRM)
        up_to, level = reader.varint(), LEVELS[reader.u8()]
        self.window, self.window_bytes = reader.varint(), reader.varint()
        if up_to > self.sent:
            raise ProtocolError(f"confirms up to {up_to}, but only {self.sent} were sent")
        for sequence in range(self.settled + 1, up_to + 1):
            self.confirmed[sequence] = Confirmed(level)
        for _ in range(reader.varint()):
            sequence, kind = reader.varint(), KINDS[reader.u8()]
            reader.varint()  # the code
            text = reader.prefixed().decode(errors="replace")
            self.confirmed[sequence] = Confirmed(level, kind, text)
        self.settled = up_to

    async def close(self) -> None:
        self.stream.finish()
        await self.stream.expect(CLOSED)


# --- consuming: section 6 -----------------------------------------------------------------------


@dataclass
class Delivery:
    offset: int
    attempt: int
    receive_time_ms: int
    message: Message


def ranges(offsets: list[int]) -> bytes:
    """Offsets as a range list."""
    runs: list[list[int]] = []
    for offset in sorted(set(offsets)):
        if runs and runs[-1][1] + 1 == offset:
            runs[-1][1] = offset
        else:
            runs.append([offset, offset])
    out, expected = varint(len(runs)), 0
    for first, last in runs:
        out += varint(first - expected) + varint(last - first)
        expected = last + 1
    return out


class Consumer:
    """Takes deliveries and says what became of them."""

    CREDIT_BYTES = 4 << 20

    def __init__(self, stream: Stream, credit: int):
        self.stream, self.credit = stream, credit
        self.taken = self.taken_bytes = 0
        self.granted = 0
        self._grant()

    def _grant(self) -> None:
        # Totals since the stream was opened; renewed when half is used.
        if self.taken + self.credit - self.granted >= (self.credit + 1) // 2:
            self.granted = self.taken + self.credit
            total_bytes = self.taken_bytes + self.CREDIT_BYTES
            self.stream.send(CREDIT, varint(self.granted) + varint(total_bytes))

    async def next(self) -> list[Delivery]:
        """The next batch."""
        reader = await self.stream.expect(DELIVER)
        flags, count, offset, time = reader.u8(), reader.varint(), reader.varint(), reader.varint()
        if flags > 1:
            raise ProtocolError(f"DELIVER flags {flags}")
        positions = []
        for _ in range(count):
            attempt = 1
            if flags & 1:
                offset += reader.varint()
                attempt = reader.varint()
            positions.append((offset, attempt))
            offset += 1
        start = reader.at
        batch = [
            Delivery(offset, attempt, time, Message.decode(reader.prefixed()))
            for offset, attempt in positions
        ]
        self.taken += count
        self.taken_bytes += reader.at - start
        self._grant()
        return batch

    def ack(self, offsets: list[int]) -> None:
        self.stream.send(ACK, ranges(offsets))

    def nack(self, offsets: list[int], delay_ms: int = 0) -> None:
        self.stream.send(NACK, varint(delay_ms) + ranges(offsets))

    async def close(self) -> None:
        """Returns once the acks are synced."""
        self.stream.finish()
        while (await self.stream.next())[0] != CLOSED:
            pass  # deliveries that were under way go back to the group
