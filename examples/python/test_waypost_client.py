"""The client's bytes against the hex blocks of docs/protocol.md. Needs no node."""

import re
import unittest
from pathlib import Path

import waypost_client as waypost
from waypost_client import Message, Reader

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def block(name: str) -> bytes:
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(rf"```hex {name}\n(.*?)```", text, re.S)
    return bytes.fromhex(re.sub(r"#.*", "", found.group(1)))


class Bytes(unittest.TestCase):
    def test_varints(self):
        # RFC 9000, appendix A.1.
        for data, value in (("c2197c5eff14e88c", 151288809941952652), ("7bbd", 15293)):
            self.assertEqual(waypost.varint(value).hex(), data)
            self.assertEqual(Reader(bytes.fromhex(data)).varint(), value)

    def test_crc32c(self):
        # RFC 3720, appendix B.4: 32 bytes of zeros.
        self.assertEqual(waypost.crc32c(bytes(32)), 0x8A9136AA)

    def test_record_and_publish(self):
        body = Message("a/b", b"hello").encode()
        self.assertEqual(body, block("record"))
        self.assertEqual(Message.decode(body), Message("a/b", b"hello"))
        data = waypost.varint(1) + waypost.varint(1) + waypost.slab([body])
        self.assertEqual(waypost.frame(waypost.PUBLISH, data), block("publish"))

    def test_everything_survives(self):
        message = Message("a", b"p", "n", b"k", "text/plain", b"id", [("h", b"1"), ("h", b"")])
        self.assertEqual(Message.decode(message.encode()), message)

    def test_damage_is_seen(self):
        body = bytearray(block("record"))
        body[-1] ^= 1
        with self.assertRaises(waypost.ProtocolError):
            Message.decode(bytes(body))

    def test_words(self):
        ack = waypost.frame(waypost.ACK, waypost.ranges([9, 3, 4, 5]))
        self.assertEqual(ack, block("ack"))
        nack = waypost.frame(waypost.NACK, waypost.varint(50) + waypost.ranges([0]))
        self.assertEqual(nack, block("nack"))

    def test_control(self):
        hello = b"\x0a\x01\x01" + waypost.proto(f2="x", f3="t")
        self.assertEqual(waypost.frame(waypost.HELLO, hello), block("hello"))
        welcome = waypost.parse_proto(block("welcome")[2:])
        self.assertEqual(welcome, {1: 1, 2: b"n", 6: 1 << 20})


if __name__ == "__main__":
    unittest.main()
