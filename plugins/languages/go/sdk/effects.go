package waypost

import (
	"errors"
	"unsafe"
)

// What is in this file needs the grants state, publish and timer.

// Why the router refuses a write to the state.
var (
	ErrTooLarge   = errors.New("the key or the value is too long, or the key is empty")
	ErrFull       = errors.New("it would be more than the plugin may keep")
	ErrReadOnly   = errors.New("init may only read")
	ErrNotANumber = errors.New("the value is no number, or the sum does not fit")
)

// Why the router refuses a message.
var (
	ErrForbidden = errors.New("no grant takes this topic")
	ErrInvalid   = errors.New("the message breaks a rule")
	ErrCallFull  = errors.New("the call has published as much as one call may")
	ErrNotNow    = errors.New("init may not publish")
)

var stateErrors = [4]error{ErrTooLarge, ErrFull, ErrReadOnly, ErrNotANumber}
var publishErrors = [4]error{ErrForbidden, ErrInvalid, ErrCallFull, ErrNotNow}

type short struct {
	failed bool
	value  uint8
}

func (s *short) err(of *[4]error) error {
	if s.failed {
		return of[s.value&3]
	}
	return nil
}

func view(bytes []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(bytes)), uint32(len(bytes))
}

func have(maybe []byte) uint32 {
	if maybe == nil {
		return 0
	}
	return 1
}

//go:wasmimport waypost:plugin/state@0.1.1 get
func importGet(key unsafe.Pointer, keyLen uint32, result unsafe.Pointer)

//go:wasmimport waypost:plugin/state@0.1.1 set
func importStateSet(key unsafe.Pointer, keyLen uint32, value unsafe.Pointer, valueLen uint32,
	ttlMs uint64, result unsafe.Pointer)

//go:wasmimport waypost:plugin/state@0.1.1 remove
func importRemove(key unsafe.Pointer, keyLen uint32, result unsafe.Pointer)

type sum struct {
	failed bool
	value  int64
}

//go:wasmimport waypost:plugin/state@0.1.1 add
func importStateAdd(key unsafe.Pointer, keyLen uint32, delta int64, ttlMs uint64, result unsafe.Pointer)

//go:wasmimport waypost:plugin/state@0.1.1 swap
func importSwap(key unsafe.Pointer, keyLen uint32, hasExpected uint32, expected unsafe.Pointer,
	expectedLen uint32, hasValue uint32, value unsafe.Pointer, valueLen uint32, ttlMs uint64,
	result unsafe.Pointer)

//go:wasmimport waypost:plugin/state@0.1.1 scan
func importScan(prefix unsafe.Pointer, prefixLen uint32, hasAfter uint32, after unsafe.Pointer,
	afterLen uint32, limit uint32, result unsafe.Pointer)

// StateGet is the value of a key: a view, as of a message.
func StateGet(key []byte) ([]byte, bool) {
	var result Maybe
	at, length := view(key)
	importGet(at, length, unsafe.Pointer(&result))
	return Items[byte](result.Value), result.Some
}

// StateSet sets a value, which stays for ttlMs, or for good with 0.
func StateSet(key, value []byte, ttlMs uint64) error {
	var result short
	at, length := view(key)
	valueAt, valueLen := view(value)
	importStateSet(at, length, valueAt, valueLen, ttlMs, unsafe.Pointer(&result))
	return result.err(&stateErrors)
}

// StateRemove removes a key and says whether it was there.
func StateRemove(key []byte) (bool, error) {
	var result short
	at, length := view(key)
	importRemove(at, length, unsafe.Pointer(&result))
	return !result.failed && result.value != 0, result.err(&stateErrors)
}

// StateAdd adds to a number, which begins as 0, and gives the sum.
func StateAdd(key []byte, delta int64, ttlMs uint64) (int64, error) {
	var result sum
	at, length := view(key)
	importStateAdd(at, length, delta, ttlMs, unsafe.Pointer(&result))
	if result.failed {
		return 0, stateErrors[result.value&3]
	}
	return result.value, nil
}

// StateSwap sets the value (nil removes it) if it is as expected (nil: absent), and says whether
// it was.
func StateSwap(key, expected, value []byte, ttlMs uint64) (bool, error) {
	var result short
	at, length := view(key)
	expectedAt, expectedLen := view(expected)
	valueAt, valueLen := view(value)
	importSwap(at, length, have(expected), expectedAt, expectedLen, have(value), valueAt, valueLen,
		ttlMs, unsafe.Pointer(&result))
	return !result.failed && result.value != 0, result.err(&stateErrors)
}

// StateScan gives keys that begin with prefix, after the key after (nil: from the first), in
// order, with their values: views, as of a message.
func StateScan(prefix, after []byte, limit uint32, yield func(key, value []byte) bool) {
	var result List
	at, length := view(prefix)
	afterAt, afterLen := view(after)
	importScan(at, length, have(after), afterAt, afterLen, limit, unsafe.Pointer(&result))
	for _, item := range Items[pair](result) {
		if !yield(Items[byte](item.name), Items[byte](item.value)) {
			return
		}
	}
}

type publishing struct {
	cause   uint32
	message rawOutgoing
}

//go:wasmimport waypost:plugin/publish@0.1.1 publish
func importPublish(params unsafe.Pointer, result unsafe.Pointer)

// Publish sends a message of the plugin's own, for the message at position cause of this call.
func Publish(cause uint32, message *Outgoing) error {
	var result short
	params := publishing{cause, message.lower()}
	importPublish(unsafe.Pointer(&params), unsafe.Pointer(&result))
	return result.err(&publishErrors)
}

//go:wasmimport waypost:plugin/timer@0.1.1 set
func importTimer(afterMs uint32)

// Timer calls what wakes.Handle names, once, after so many ms (at least 10); 0 stops it.
func Timer(afterMs uint32) { importTimer(afterMs) }
