"""Waypost plugins in Python: the contract of wit/plugin.wit.

    class Loud(Plugin):
        def init(self, config):
            self.limit = config.number("limit", 80.0)
            return Interest(headers=["decibel"])

        def filter(self, message):
            ...
            return Drop("too quiet")

    Lifecycle, Filter = exports(Loud, "filter")

Messages are views into the packed batch: a field that is never read costs nothing, and a message
is good only until the call ends. What a plugin asks of the router it imports from `wit_world`, by
the name of the interface, which the project's world (wit/world.wit) must name too:

    from wit_world.imports import log
    log.log(log.Level.INFO, "...")

`log`, `clock`, `random`, `metrics` and `payload` every plugin may import; `state`, `publish` and
`timer` need a grant.
"""

import json
import re
from struct import Struct

from componentize_py_types import Err
from wit_world.imports import payload as _payload
from wit_world.imports import types as _types

_STRIDE_MIN = 20
_PAYLOAD_CUT = 4
_PULL_BYTES_MAX = 1 << 20
_two_words = Struct("<II").unpack_from
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch


def number(text):
    """A number as JSON writes it, of bytes with nothing around it; None for anything else."""
    if not _NUMBER(text):
        return None
    value = float(text)
    return value if value - value == 0 else None


# Objects and lists within each other that parse_json takes.
_DEPTH_MAX = 128
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]').finditer


def _constant(name):
    raise ValueError(f"{name} is not JSON")


def parse_json(data):
    """json.loads, for bytes from outside: raises ValueError for what is not JSON in UTF-8, and where
    it is nested so deep that the parser would run out of stack, which ends the instance and is no
    exception."""
    text = data.decode()
    if text.count("[") + text.count("{") > _DEPTH_MAX:
        depth = 0
        for token in _STRUCTURE(text):
            first = token.group()[0]
            if first in "[{":
                depth += 1
                if depth > _DEPTH_MAX:
                    raise ValueError(f"nested deeper than {_DEPTH_MAX}")
            elif first in "]}":
                depth -= 1
    return json.loads(text, parse_constant=_constant)


class Message:
    """One message of a batch. The object is used again for the next message."""

    __slots__ = ("_index", "_arena", "_at", "position")

    def _bytes(self, word):
        at = self._at + word
        start = self._index[at]
        return self._arena[start : start + self._index[at + 1]]

    def _text(self, word):
        return self._bytes(word).decode("utf-8", "replace")

    def _marked(self, mark):
        return self._index[self._at] & mark != 0

    def _wide(self, word):
        return self._index[self._at + word] | self._index[self._at + word + 1] << 32

    @property
    def topic(self):
        return self._text(1)

    @property
    def payload(self):
        """The payload, or the part of it that was asked for."""
        return self._bytes(5)

    @property
    def payload_len(self):
        return self._index[self._at + 7]

    def whole_payload(self):
        """The whole payload; what is not here is pulled from the router."""
        whole = self.payload
        if not self._marked(_PAYLOAD_CUT):
            return whole
        parts = [whole]
        here = len(whole)
        while here < self.payload_len:
            wanted = min(self.payload_len - here, _PULL_BYTES_MAX)
            part = _payload.read(self.position, here, wanted)
            if not part:
                raise ValueError("the payload ended early")
            parts.append(part)
            here += len(part)
        return b"".join(parts)

    @property
    def receive_time_ms(self):
        return self._wide(8)

    # These are None unless they were asked for and the message has them.

    @property
    def key(self):
        return self._bytes(10) if self._marked(16) else None

    @property
    def content_type(self):
        return self._text(12) if self._marked(32) else None

    @property
    def message_id(self):
        return self._bytes(14) if self._marked(64) else None

    @property
    def reply_to(self):
        return self._text(16) if self._marked(128) else None

    @property
    def ttl_ms(self):
        return self._wide(18) if self._marked(8) else None

    @property
    def redelivered(self):
        return self._marked(1)

    @property
    def from_peer(self):
        return self._marked(2)

    def headers(self):
        """Names and values (bytes) of the headers that were asked for, in the publisher's order."""
        return [(name.decode("utf-8", "replace"), value) for name, value in self._headers()]

    def _headers(self):
        arena = self._arena
        at = self._index[self._at + 3]
        stop = at + self._index[self._at + 4]
        while at + 8 <= stop:
            name_len, value_len = _two_words(arena, at)
            value = at + 8 + name_len
            if value + value_len > stop:
                return
            yield arena[at + 8 : value], arena[value : value + value_len]
            at = value + value_len

    def header(self, name):
        """The value (bytes) of the first header with this name, if that header was asked for."""
        wanted = _names.get(name)
        if wanted is None:
            wanted = _names[name] = name.encode()
        # As _headers, without a generator: this is what most plugins do for each message.
        arena = self._arena
        words = self._at + 3
        at = self._index[words]
        stop = at + self._index[words + 1]
        while at + 8 <= stop:
            name_len, value_len = _two_words(arena, at)
            value = at + 8 + name_len
            if arena[at + 8 : value] == wanted:
                return arena[value : value + value_len]
            at = value + value_len
        return None


_names = {}


class Refusal(Exception):
    """Refuses to start, in init; the setting at fault may be None."""

    def __init__(self, setting, message):
        super().__init__(message)
        self.setting = setting


class Config:
    """What init gets: plugin, role, instance, settings (pairs, in order), destinations."""

    def __init__(self, raw):
        self.plugin = raw.plugin
        self.role = raw.role
        self.instance = raw.instance
        self.settings = raw.settings
        self.destinations = raw.destinations

    def get(self, name, otherwise=None):
        """The value of a setting, of the last one of that name."""
        return dict(self.settings).get(name, otherwise)

    def number(self, name, otherwise=None):
        value = self.get(name)
        if value is None:
            return otherwise
        parsed = number(value.encode())
        if parsed is None:
            raise Refusal(name, f"'{value}' is not a number")
        return parsed

    def allow(self, *known):
        """Refuses settings that are not known, so that a slip of the pen is not passed over."""
        for name, _ in self.settings:
            if name not in known:
                raise Refusal(name, f"unknown setting, expected one of {', '.join(known)}")

    def destination(self, name):
        """The index of a destination of the route; None if it has none of that name."""
        return self.destinations.index(name) if name in self.destinations else None


class Interest:
    """What the router must copy in. Topic, marks and receive time always are.

    headers: names, or True for all. payload: True, or the first so many bytes. fields: any of
    key, content-type, message-id, reply-to, ttl.
    """

    def __init__(self, headers=(), payload=False, fields=(), max_batch=0):
        self.headers = headers
        self.payload = payload
        self.fields = fields
        self.max_batch = max_batch

    def _raw(self):
        if self.headers is True:
            headers = _types.HeaderInterest_Everything()
        elif self.headers:
            headers = _types.HeaderInterest_Only(list(self.headers))
        else:
            headers = _types.HeaderInterest_Nothing()
        if self.payload is True:
            payload = _types.PayloadInterest_Everything()
        elif self.payload:
            payload = _types.PayloadInterest_Prefix(self.payload)
        else:
            payload = _types.PayloadInterest_Nothing()
        return _types.Interest(headers, payload, list(self.fields), self.max_batch)


# Answers. A function that returns None says pass.


class _Answer:
    __slots__ = ("value",)

    def __init__(self, value=None):
        self.value = value


class Drop(_Answer):
    """It ends here; with the reason, if there is one."""


class Reject(_Answer):
    """It is refused, and the publisher hears the reason."""


class Retry(_Answer):
    """It is tried again after so many ms; 0 leaves it to the router."""


class DeadLetter(_Answer):
    """It goes to the dead-letter queue, with the reason."""


class To(_Answer):
    """A route: to these destinations, a list of their indexes."""


class Emit(_Answer):
    """A transform: these messages instead, a list of Outgoing."""


def _bytes_of(value):
    return value.encode() if isinstance(value, str) else value


def _pairs(headers):
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, _bytes_of(value)) for name, value in pairs]


class Edit(_Answer):
    """A transform: changes. What is not named stays; an empty key or content type removes it."""

    def __init__(self, topic=None, key=None, content_type=None, remove_headers=(), set_headers=(),
                 payload=None, ttl_ms=None):
        super().__init__(_types.Edit(topic, _bytes_of(key), content_type, list(remove_headers),
                                     _pairs(set_headers), _bytes_of(payload), ttl_ms))


def Outgoing(topic, payload=b"", headers=(), key=None, content_type=None, reply_to=None,
             ttl_ms=None):
    """A message that a plugin makes, for Emit and for wit_world.imports.publish."""
    return _types.Outgoing(topic, _bytes_of(key), content_type, reply_to, _pairs(headers),
                           _bytes_of(payload), ttl_ms)


class Plugin:
    """What every plugin is: a class with init and a method for each of its roles."""

    def init(self, config):
        return Interest()


_plugin = None
_message = Message()


def _messages(batch):
    count, stride, index = batch.count, batch.stride, batch.index
    if stride < _STRIDE_MIN or count * stride > len(index):
        raise Err(_types.Error_Internal("the batch's index does not hold its messages"))
    message = _message
    message._index = index
    message._arena = batch.arena
    for position in range(count):
        message._at = position * stride
        message.position = position
        yield message


def _lifecycle(of):
    class Lifecycle:
        def init(self, config):
            global _plugin
            try:
                _plugin = of()
                return _plugin.init(Config(config))._raw()
            except Refusal as refusal:
                raise Err(_types.InitError(refusal.setting, str(refusal)))

    return Lifecycle


def _filter():
    from wit_world.exports.filter import Decision, Decisions

    decisions = {
        Drop: Decision.DROP,
        Reject: Decision.REJECT,
        Retry: Decision.RETRY,
        DeadLetter: Decision.DEAD_LETTER,
    }
    passed = Decision.PASS

    class Filter:
        def filter(self, batch):
            each, reasons = [], []
            decide = _plugin.filter
            for message in _messages(batch):
                answer = decide(message)
                if answer is None:
                    each.append(passed)
                    continue
                each.append(decisions[type(answer)])
                if isinstance(answer.value, str):
                    reasons.append((message.position, answer.value))
            return Decisions(each, reasons)

    return Filter


def _answers(module, prefix, cases):
    """How an answer becomes the one of a role's own types."""

    def case(name):
        return getattr(module, f"{prefix}_{name.__name__}")

    makers = {of: case(of) for of in (Drop, *cases)}
    makers[Reject] = lambda reason: case(Reject)(reason or "")
    makers[DeadLetter] = lambda reason: case(DeadLetter)(reason or "")
    makers[Retry] = lambda after_ms: case(Retry)(after_ms or 0)
    passed = getattr(module, f"{prefix}_Pass")()

    def make(answer):
        return passed if answer is None else makers[type(answer)](answer.value)

    return make


def _transform():
    from wit_world.exports import transform

    make = _answers(transform, "Outcome", (Edit, Emit))

    class Transform:
        def transform(self, batch):
            change = _plugin.transform
            return [make(change(message)) for message in _messages(batch)]

    return Transform


def _route():
    from wit_world.exports import route

    make = _answers(route, "Choice", (To,))

    class Route:
        def route(self, batch):
            choose = _plugin.route
            return [make(choose(message)) for message in _messages(batch)]

    return Route


def _each():
    from wit_world.exports import each

    make = _answers(each, "Outcome", (Edit, Emit, To))

    class Each:
        def on_message(self, message):
            return make(_plugin.each(message))

    return Each


def _wakes():
    class Wakes:
        def on_timer(self):
            _plugin.on_timer()

    return Wakes


def _schema(of):
    class Schema:
        def settings(self):
            return of.schema

    return Schema


def exports(of, *roles):
    """The classes that componentize-py looks for: Lifecycle, and one for each of `roles`, which are
    filter, transform, route, each, wakes and schema."""
    makers = {
        "filter": _filter,
        "transform": _transform,
        "route": _route,
        "each": _each,
        "wakes": _wakes,
        "schema": lambda: _schema(of),
    }
    return (_lifecycle(of), *(makers[role]() for role in roles))
