// The reference plugin, in Go: what it does is written in plugins/languages/README.md.
package main

import (
	"strconv"
	"strings"

	"waypost.local/waypost"
	"waypost.local/waypost/filter"
	"waypost.local/waypost/route"
	"waypost.local/waypost/transform"
)

// Most features are shorter; what is longer is pulled.
const payloadPrefix = 4096

var (
	minMagnitude float64
	header       string
	topic        string
	theRules     rules
)

func init() {
	waypost.Init(start)
	filter.Handle(judge)
	transform.Handle(change)
	route.Handle(choose)
}

func main() {}

func start(config *waypost.Config) (waypost.Interest, error) {
	whole := waypost.Interest{PayloadPrefix: payloadPrefix}
	switch config.Role {
	case "filter":
		if err := config.Allow("min-magnitude", "header"); err != nil {
			return whole, err
		}
		if name, ok := config.Get("header"); ok {
			header = name
			whole = waypost.Interest{Headers: []string{name}}
		}
		var err error
		minMagnitude, err = config.Number("min-magnitude", 3)
		return whole, err
	case "transform":
		topic, _ = config.Get("topic")
		return whole, config.Allow("topic")
	default:
		var err error
		theRules, err = readRules(config)
		return whole, err
	}
}

func text(number float64) string { return strconv.FormatFloat(number, 'f', -1, 64) }

// magnitudeOf reads a header or the payload. A text says why it is a dead letter.
func magnitudeOf(message *waypost.Message) (magnitude, string) {
	if header == "" {
		quake, bad := readQuake(message)
		return quake.magnitude, bad
	}
	value, ok := message.Header(header)
	if !ok {
		return magnitude{}, ""
	}
	number, ok := waypost.ParseNumber(value)
	if !ok {
		return magnitude{}, "header '" + header + "' is not a number"
	}
	return magnitude{number, true}, ""
}

func judge(message *waypost.Message) (filter.Decision, string) {
	mag, bad := magnitudeOf(message)
	switch {
	case bad != "":
		return filter.DeadLetter, bad
	case !mag.known:
		return filter.Drop, "no magnitude"
	case mag.number < minMagnitude:
		return filter.Drop, "magnitude " + text(mag.number) + " is below " + text(minMagnitude)
	}
	return filter.Pass, ""
}

func change(message *waypost.Message) transform.Outcome {
	quake, bad := readQuake(message)
	if bad != "" {
		return transform.DeadLetter(bad)
	}
	edit := waypost.NewEdit().Payload(quake.compact()).ContentType("application/json")
	if topic != "" {
		edit.Topic(strings.ReplaceAll(topic, "{topic}", message.Topic()))
	}
	if quake.magnitude.known {
		edit.Header("magnitude", text(quake.magnitude.number))
	} else {
		edit.WithoutHeader("magnitude")
	}
	return transform.Edit(edit)
}

func choose(message *waypost.Message) route.Choice {
	quake, bad := readQuake(message)
	if bad != "" {
		return route.DeadLetter(bad)
	}
	return theRules.choose(quake.magnitude)
}
