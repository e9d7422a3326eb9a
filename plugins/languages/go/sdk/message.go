package waypost

import (
	"errors"
	"unsafe"
)

const strideMin = 20

const (
	redelivered    = 1
	fromPeer       = 2
	payloadCut     = 4
	hasTTL         = 8
	hasKey         = 16
	hasContentType = 32
	hasMessageID   = 64
	hasReplyTo     = 128
)

// Message is one message of a batch. It reads a field when it is asked for it; a field that is
// never read costs nothing.
type Message struct {
	words    *[strideMin]uint32
	arena    []byte
	position uint32
}

// Batch is the messages of a call, as the router packed them.
type Batch struct {
	words    unsafe.Pointer
	arena    []byte
	stride   uintptr
	Count    int
	position uint32
}

// NewBatch takes over what the router passed, and says whether it can be read.
func NewBatch(count, stride, index, indexLen, arena, arenaLen uint32) (Batch, bool) {
	if memory.over {
		startOver()
	}
	batch := Batch{
		words:  pointer(index),
		arena:  Items[byte](List{arena, arenaLen}),
		stride: uintptr(stride) * 4,
		Count:  int(count),
	}
	return batch, stride >= strideMin && uint64(count)*uint64(stride) <= uint64(indexLen)
}

// Read makes message the one at position.
func (b *Batch) Read(message *Message, position int) {
	message.words = (*[strideMin]uint32)(unsafe.Add(b.words, b.stride*uintptr(position)))
	message.arena = b.arena
	message.position = uint32(position)
}

func (m *Message) field(word int) []byte {
	start, length := uint64(m.words[word]), uint64(m.words[word+1])
	if start+length > uint64(len(m.arena)) {
		return nil
	}
	return m.arena[start : start+length : start+length]
}

func (m *Message) text(word int) string {
	field := m.field(word)
	return unsafe.String(unsafe.SliceData(field), len(field))
}

func (m *Message) marked(mark uint32) bool { return m.words[0]&mark != 0 }

func (m *Message) wide(word int) uint64 {
	return uint64(m.words[word]) | uint64(m.words[word+1])<<32
}

// Position is the place in the batch, from 0.
func (m *Message) Position() uint32 { return m.position }

// Topic is the topic.
func (m *Message) Topic() string { return m.text(1) }

// Payload is the payload, or the part of it that was asked for.
func (m *Message) Payload() []byte { return m.field(5) }

// PayloadLen is the bytes of the whole payload.
func (m *Message) PayloadLen() int { return int(m.words[7]) }

// ReceiveTimeMs is when the router received it, in ms since 1970.
func (m *Message) ReceiveTimeMs() uint64 { return m.wide(8) }

// Key is the key, if there is one and "key" was asked for.
func (m *Message) Key() ([]byte, bool) { return m.field(10), m.marked(hasKey) }

// ContentType is the content type, if there is one and "content-type" was asked for.
func (m *Message) ContentType() (string, bool) { return m.text(12), m.marked(hasContentType) }

// MessageID is the message id, if there is one and "message-id" was asked for.
func (m *Message) MessageID() ([]byte, bool) { return m.field(14), m.marked(hasMessageID) }

// ReplyTo is the topic for an answer, if there is one and "reply-to" was asked for.
func (m *Message) ReplyTo() (string, bool) { return m.text(16), m.marked(hasReplyTo) }

// TTLMs is what is left of the time-to-live, if there is one and "ttl" was asked for.
func (m *Message) TTLMs() (uint64, bool) { return m.wide(18), m.marked(hasTTL) }

// Redelivered says whether it was delivered to this route before.
func (m *Message) Redelivered() bool { return m.marked(redelivered) }

// FromPeer says whether it came from a peer router.
func (m *Message) FromPeer() bool { return m.marked(fromPeer) }

func word(from []byte) uint64 {
	return uint64(uint32(from[0]) | uint32(from[1])<<8 | uint32(from[2])<<16 | uint32(from[3])<<24)
}

// nextHeader cuts a header off a run of them.
func nextHeader(rest []byte) (name, value, tail []byte, ok bool) {
	if len(rest) < 8 {
		return nil, nil, nil, false
	}
	nameLen, valueLen := word(rest), word(rest[4:])
	rest = rest[8:]
	if nameLen+valueLen > uint64(len(rest)) {
		return nil, nil, nil, false
	}
	return rest[:nameLen], rest[nameLen : nameLen+valueLen], rest[nameLen+valueLen:], true
}

// Header is the value of the first header with this name, if that header was asked for.
func (m *Message) Header(name string) ([]byte, bool) {
	for rest := m.field(3); ; {
		found, value, tail, ok := nextHeader(rest)
		if !ok {
			return nil, false
		}
		if string(found) == name {
			return value, true
		}
		rest = tail
	}
}

// Headers are the headers that were asked for, in the publisher's order; names may repeat.
func (m *Message) Headers(yield func(name string, value []byte) bool) {
	for rest := m.field(3); ; {
		name, value, tail, ok := nextHeader(rest)
		if !ok || !yield(unsafe.String(unsafe.SliceData(name), len(name)), value) {
			return
		}
		rest = tail
	}
}

// Bytes that payload.read gives at most in one call.
const pullBytesMax = 1 << 20

type readResult struct {
	failed bool
	part   List
}

//go:wasmimport waypost:plugin/payload@0.1.1 read
func importRead(message, offset, length uint32, result unsafe.Pointer)

// WholePayload is the whole payload; what is not here is pulled from the router.
func (m *Message) WholePayload() ([]byte, error) {
	here := m.Payload()
	if !m.marked(payloadCut) {
		return here, nil
	}
	whole := append(make([]byte, 0, m.PayloadLen()), here...)
	for len(whole) < m.PayloadLen() {
		var result readResult
		wanted := min(m.PayloadLen()-len(whole), pullBytesMax)
		importRead(m.position, uint32(len(whole)), uint32(wanted), unsafe.Pointer(&result))
		if result.failed {
			return nil, errors.New(Text(result.part))
		}
		if result.part.Len == 0 {
			return nil, errors.New("the payload ended early")
		}
		whole = append(whole, Items[byte](result.part)...)
	}
	return whole, nil
}
