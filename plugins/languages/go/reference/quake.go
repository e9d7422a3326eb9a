package main

import (
	"encoding/json"
	"unicode/utf8"

	"waypost.local/waypost"
)

type magnitude struct {
	number float64
	known  bool
}

// quake is what the reference plugin reads of a feature.
type quake struct {
	magnitude magnitude
	// JSON as it stands there, or null
	id, mag, place, time, depth json.RawMessage
}

type object = map[string]json.RawMessage

// members gives those of an object; of anything else it gives none.
func members(value json.RawMessage) object {
	var found object
	if json.Unmarshal(value, &found) != nil {
		return nil
	}
	return found
}

var null = json.RawMessage("null")

// ifIs gives a value if it begins as those of its kind do.
func ifIs(value json.RawMessage, begins string) json.RawMessage {
	for i := 0; len(value) > 0 && i < len(begins); i++ {
		if value[0] == begins[i] {
			return value
		}
	}
	return null
}

const (
	isText   = `"`
	isNumber = "-0123456789"
)

// readQuake reads a message's payload. A text says why it is a dead letter.
func readQuake(message *waypost.Message) (quake, string) {
	payload, err := message.WholePayload()
	if err != nil {
		return quake{}, err.Error()
	}
	if !utf8.Valid(payload) {
		return quake{}, "not JSON: not UTF-8"
	}
	// Members by their own names: a struct would take those of another case too.
	var feature json.RawMessage
	if err := json.Unmarshal(payload, &feature); err != nil {
		return quake{}, "not JSON: " + err.Error()
	}
	root := members(feature)
	properties := members(root["properties"])
	if properties == nil {
		return quake{}, "not an earthquake: no properties"
	}
	found := quake{
		id:    ifIs(root["id"], isText),
		mag:   ifIs(properties["mag"], isNumber),
		place: ifIs(properties["place"], isText),
		time:  ifIs(properties["time"], isNumber),
		depth: null,
	}
	var coordinates []json.RawMessage
	_ = json.Unmarshal(members(root["geometry"])["coordinates"], &coordinates)
	if len(coordinates) > 2 {
		found.depth = ifIs(coordinates[2], isNumber)
	}
	if mag := properties["mag"]; mag != nil && string(mag) != "null" {
		number, ok := waypost.ParseNumber(mag)
		if !ok {
			return quake{}, "not an earthquake: mag is not a number"
		}
		found.magnitude = magnitude{number, true}
	}
	return found, ""
}

// compact is the compact JSON of it.
func (q *quake) compact() []byte {
	text := make([]byte, 0, 256)
	text = append(append(text, `{"id":`...), q.id...)
	text = append(append(text, `,"mag":`...), q.mag...)
	text = append(append(text, `,"place":`...), q.place...)
	text = append(append(text, `,"time":`...), q.time...)
	text = append(append(text, `,"depth":`...), q.depth...)
	return append(text, '}')
}
