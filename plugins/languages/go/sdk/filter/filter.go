// Package filter makes a plugin a filter: it says which messages go on.
package filter

import "waypost.local/waypost"

// Decision is what a filter says of a message.
type Decision uint8

// The decisions.
const (
	Pass Decision = iota
	Drop
	Reject
	Retry
	DeadLetter
)

type reason struct {
	position uint32
	text     waypost.List
}

var (
	judge   func(*waypost.Message) (Decision, string)
	answers waypost.Answers
	message waypost.Message
	reasons []reason
)

// Handle says what decides on a message; the text is its reason, or empty. Call it in an init
// function of the program.
func Handle(function func(*waypost.Message) (Decision, string)) { judge = function }

//go:wasmexport waypost:plugin/filter@0.1.1#filter
func filter(count, stride, index, indexLen, arena, arenaLen uint32) uint32 {
	defer waypost.End()
	batch, ok := waypost.NewBatch(count, stride, index, indexLen, arena, arenaLen)
	if !ok {
		answers.Fail(waypost.BadBatch)
		return waypost.Address(&answers)
	}
	each, list := waypost.Room[Decision](batch.Count)
	reasons = reasons[:0]
	for i := range each {
		batch.Read(&message, i)
		decision, text := judge(&message)
		each[i] = decision
		if text != "" {
			reasons = append(reasons, reason{uint32(i), waypost.Place(text)})
		}
	}
	given, givenList := waypost.Room[reason](len(reasons))
	copy(given, reasons)
	answers.Set(list, givenList)
	return waypost.Address(&answers)
}
