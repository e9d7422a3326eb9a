"""The reference plugin, in Python: what it does is written in plugins/languages/README.md."""

import json

from quake import BadQuake, number_text, read_quake
from rules import Rules
from waypost import DeadLetter, Drop, Edit, Interest, Plugin, exports, number

# Most features are shorter; what is longer is pulled.
PAYLOAD_PREFIX = 4096


class Reference(Plugin):
    def init(self, config):
        if config.role == "filter":
            config.allow("min-magnitude", "header")
            self.min = config.number("min-magnitude", 3.0)
            self.header = config.get("header")
            if self.header is not None:
                return Interest(headers=[self.header])
        elif config.role == "transform":
            config.allow("topic")
            self.topic = config.get("topic")
        else:
            self.rules = Rules(config)
        return Interest(payload=PAYLOAD_PREFIX)

    def filter(self, message):
        if self.header is not None:
            text = message.header(self.header)
            magnitude = None if text is None else number(text)
            if text is not None and magnitude is None:
                return DeadLetter(f"header '{self.header}' is not a number")
        else:
            try:
                magnitude = read_quake(message).magnitude
            except BadQuake as bad:
                return DeadLetter(str(bad))
        if magnitude is None:
            return Drop("no magnitude")
        if magnitude >= self.min:
            return None
        return Drop(f"magnitude {number_text(magnitude)} is below {number_text(self.min)}")

    def transform(self, message):
        try:
            quake = read_quake(message)
        except BadQuake as bad:
            return DeadLetter(str(bad))
        magnitude = quake.magnitude
        return Edit(
            topic=self.topic and self.topic.replace("{topic}", message.topic),
            payload=json.dumps(quake.compact(), separators=(",", ":")),
            content_type="application/json",
            set_headers=[] if magnitude is None else [("magnitude", number_text(magnitude))],
            remove_headers=["magnitude"] if magnitude is None else [],
        )

    def route(self, message):
        try:
            return self.rules.choose(read_quake(message).magnitude)
        except BadQuake as bad:
            return DeadLetter(str(bad))


Lifecycle, Filter, Transform, Route = exports(Reference, "filter", "transform", "route")
