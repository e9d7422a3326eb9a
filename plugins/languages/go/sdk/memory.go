// Package waypost is the contract of wit/plugin.wit, by hand: what every plugin has, whatever its
// role. The packages below it are the roles; which of them a program imports is what it exports.
// Only what is called becomes an import of the component.
//
// Text and bytes of a Message are views into the router's batch: they are good until the call ends.
// Keep a copy (strings.Clone, bytes.Clone) of what has to live longer.
package waypost

import "unsafe"

// The router's lists, and the texts of our answers, lie in pieces that a position runs through.
// They are used again by the next call; the garbage collector never sees what is in them.
var memory struct {
	pieces [][]uint64
	at     uintptr // in the last piece
	// over: the last call has ended; whatever is asked for next belongs to another.
	over bool
}

const (
	pieceBytes = 64 << 10
	// What one unusually large batch took is given back.
	keptBytesMax = 4 << 20
)

func addPiece(bytes uintptr) {
	memory.pieces = append(memory.pieces, make([]uint64, (bytes+7)/8))
	memory.at = 0
}

func startOver() {
	memory.over = false
	memory.at = 0
	total := uintptr(0)
	for _, piece := range memory.pieces {
		total += uintptr(len(piece)) * 8
	}
	if len(memory.pieces) < 2 && total <= keptBytesMax {
		return
	}
	memory.pieces = nil
	if total <= keptBytesMax {
		addPiece(total)
	}
}

func take(bytes uintptr) unsafe.Pointer {
	if memory.over {
		startOver()
	}
	memory.at = (memory.at + 7) &^ 7
	last := len(memory.pieces) - 1
	if last < 0 || bytes > uintptr(len(memory.pieces[last]))*8-memory.at {
		addPiece(max(bytes, pieceBytes))
		last++
	}
	at := unsafe.Add(unsafe.Pointer(unsafe.SliceData(memory.pieces[last])), memory.at)
	memory.at += bytes
	return at
}

//go:wasmexport cabi_realloc
func realloc(old, oldBytes, align, bytes uint32) uint32 {
	at := take(uintptr(max(bytes, 1)))
	if oldBytes > 0 {
		kept := unsafe.Slice((*byte)(pointer(old)), min(oldBytes, bytes))
		copy(unsafe.Slice((*byte)(at), bytes), kept)
	}
	return uint32(uintptr(at))
}

// pointer gives the place of something that the router put into our memory.
func pointer(at uint32) unsafe.Pointer {
	return unsafe.Pointer(uintptr(at)) //nolint:govet // a 32-bit address of this memory
}

// Text is a view of a text of the router's.
func Text(at List) string {
	if at.Len == 0 {
		return ""
	}
	return unsafe.String((*byte)(pointer(at.At)), at.Len)
}

// Items is a view of a list of the router's.
func Items[T any](at List) []T {
	if at.Len == 0 {
		return nil
	}
	return unsafe.Slice((*T)(pointer(at.At)), at.Len)
}

// The types below, and all that are made of them, have the layout of the component model's
// canonical ABI. They are exported for the packages of the roles.

// List is a text, bytes or another list, by its address.
type List struct{ At, Len uint32 }

// Maybe is a List that may be absent.
type Maybe struct {
	Some  bool
	Value List
}

type maybe64 struct {
	some  bool
	value uint64
}

type pair struct{ name, value List }

// Place copies a text to where the router can read it when the call has ended.
func Place(text string) List {
	if text == "" {
		return List{}
	}
	at := take(uintptr(len(text)))
	copy(unsafe.Slice((*byte)(at), len(text)), text)
	return List{uint32(uintptr(at)), uint32(len(text))}
}

func placeBytes(bytes []byte) List {
	return Place(unsafe.String(unsafe.SliceData(bytes), len(bytes)))
}

// Room gives count zeroed items of a list in an answer, and the list.
func Room[T any](count int) ([]T, List) {
	if count == 0 {
		return nil, List{}
	}
	var item T
	at := take(unsafe.Sizeof(item) * uintptr(count))
	items := unsafe.Slice((*T)(at), count)
	clear(items)
	return items, List{uint32(uintptr(at)), uint32(count)}
}

// Address is where the router reads an answer.
func Address[T any](answer *T) uint32 {
	return uint32(uintptr(unsafe.Pointer(answer)))
}

// End says that a call has ended. What it answers stays in memory until the next begins.
func End() { memory.over = true }
