// Package route makes a plugin a route: it says where messages go.
package route

import "waypost.local/waypost"

// Choice is what a route says of a message. Texts of it are copied when it is made.
type Choice struct {
	tag   uint8
	words [3]uint32
}

// Pass sends it to all destinations of the route.
func Pass() Choice { return Choice{} }

// Drop ends it here; the reason may be empty.
func Drop(reason string) Choice {
	text, some := waypost.Place(reason), uint32(0)
	if reason != "" {
		some = 1
	}
	return Choice{1, [3]uint32{some, text.At, text.Len}}
}

// One sends it to the destination with this index.
func One(destination uint32) Choice { return Choice{2, [3]uint32{destination}} }

// To sends it to these, each at most once; not to none, which is Drop.
func To(destinations ...uint32) Choice {
	items, list := waypost.Room[uint32](len(destinations))
	copy(items, destinations)
	return withList(3, list)
}

// Reject refuses it; the publisher hears the reason.
func Reject(reason string) Choice { return withList(4, waypost.Place(reason)) }

// Retry tries it again after so many ms; 0 leaves it to the router.
func Retry(afterMs uint32) Choice { return Choice{5, [3]uint32{afterMs}} }

// DeadLetter sends it to the dead-letter queue.
func DeadLetter(reason string) Choice { return withList(6, waypost.Place(reason)) }

func withList(tag uint8, list waypost.List) Choice {
	return Choice{tag, [3]uint32{list.At, list.Len}}
}

var (
	choose  func(*waypost.Message) Choice
	answers waypost.Answers
	message waypost.Message
)

// Handle says what chooses for a message. Call it in an init function of the program.
func Handle(function func(*waypost.Message) Choice) { choose = function }

//go:wasmexport waypost:plugin/route@0.1.1#route
func route(count, stride, index, indexLen, arena, arenaLen uint32) uint32 {
	defer waypost.End()
	batch, ok := waypost.NewBatch(count, stride, index, indexLen, arena, arenaLen)
	if !ok {
		answers.Fail(waypost.BadBatch)
		return waypost.Address(&answers)
	}
	choices, list := waypost.Room[Choice](batch.Count)
	for i := range choices {
		batch.Read(&message, i)
		choices[i] = choose(&message)
	}
	answers.Set(list, waypost.List{})
	return waypost.Address(&answers)
}
