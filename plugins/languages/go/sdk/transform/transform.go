// Package transform makes a plugin a transform: it says what messages become.
package transform

import (
	"unsafe"

	"waypost.local/waypost"
)

// Outcome is what a transform says of a message. Texts of it are copied when it is made.
type Outcome struct {
	tag  uint8
	body body
}

// The longest member of the variant; the others lie over its beginning.
type body struct {
	edit waypost.RawEdit
}

type outcomeText struct {
	_    [8]byte
	text waypost.List
}

type outcomeReason struct {
	_      [8]byte
	reason waypost.Maybe
}

func over[T any](outcome *Outcome) *T { return (*T)(unsafe.Pointer(outcome)) }

// Pass lets it go on as it is.
func Pass() Outcome { return Outcome{} }

// Drop ends it here; the reason may be empty.
func Drop(reason string) Outcome {
	outcome := Outcome{tag: 1}
	over[outcomeReason](&outcome).reason = waypost.Maybe{Some: reason != "", Value: waypost.Place(reason)}
	return outcome
}

// Edit lets it go on with changes.
func Edit(edit *waypost.Edit) Outcome { return Outcome{2, body{edit.Raw()}} }

// Emit lets these go on instead of it, in this order.
func Emit(messages ...waypost.Outgoing) Outcome {
	return withList(3, waypost.PlaceMessages(messages))
}

// Reject refuses it; the publisher hears the reason.
func Reject(reason string) Outcome { return withList(4, waypost.Place(reason)) }

// Retry tries it again after so many ms; 0 leaves it to the router.
func Retry(afterMs uint32) Outcome { return withList(5, waypost.List{At: afterMs}) }

// DeadLetter sends it to the dead-letter queue.
func DeadLetter(reason string) Outcome { return withList(6, waypost.Place(reason)) }

func withList(tag uint8, list waypost.List) Outcome {
	outcome := Outcome{tag: tag}
	over[outcomeText](&outcome).text = list
	return outcome
}

var (
	change  func(*waypost.Message) Outcome
	answers waypost.Answers
	message waypost.Message
)

// Handle says what changes a message. Call it in an init function of the program.
func Handle(function func(*waypost.Message) Outcome) { change = function }

//go:wasmexport waypost:plugin/transform@0.1.1#transform
func transform(count, stride, index, indexLen, arena, arenaLen uint32) uint32 {
	defer waypost.End()
	batch, ok := waypost.NewBatch(count, stride, index, indexLen, arena, arenaLen)
	if !ok {
		answers.Fail(waypost.BadBatch)
		return waypost.Address(&answers)
	}
	outcomes, list := waypost.Room[Outcome](batch.Count)
	for i := range outcomes {
		batch.Read(&message, i)
		outcomes[i] = change(&message)
	}
	answers.Set(list, waypost.List{})
	return waypost.Address(&answers)
}
