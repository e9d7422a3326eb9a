"""An earthquake, as a GeoJSON feature says it."""

from waypost import parse_json


class BadQuake(Exception):
    """The reason for a dead letter."""


def number_text(number):
    """The shortest decimal that reads as this number again."""
    text = repr(number)
    return text[:-2] if text.endswith(".0") else text


def _is_number(value):
    return type(value) in (int, float) and value - value == 0


def _if_is(fits, value):
    return value if fits else None


class Quake:
    def __init__(self, feature, properties):
        self.feature = feature
        self.properties = properties
        self.magnitude = properties.get("mag")
        if self.magnitude is not None and not _is_number(self.magnitude):
            raise BadQuake("not an earthquake: mag is not a number")

    def compact(self):
        geometry = self.feature.get("geometry")
        coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
        depth = None
        if isinstance(coordinates, list) and len(coordinates) > 2:
            depth = _if_is(_is_number(coordinates[2]), coordinates[2])
        ident, place = self.feature.get("id"), self.properties.get("place")
        time = self.properties.get("time")
        return {
            "id": _if_is(isinstance(ident, str), ident),
            "mag": self.magnitude,
            "place": _if_is(isinstance(place, str), place),
            "time": _if_is(_is_number(time), time),
            "depth": depth,
        }


def read_quake(message):
    """Reads a message's payload."""
    try:
        feature = parse_json(message.whole_payload())
    except ValueError as error:
        raise BadQuake(f"not JSON: {error}") from None
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        raise BadQuake("not an earthquake: no properties")
    return Quake(feature, properties)
