// Package each makes a plugin one that answers for one message a call, in any way: simple, and
// dearer.
package each

import (
	"unsafe"

	"waypost.local/waypost"
)

// Message is one message. Its texts and bytes are views: they are good until the call ends.
type Message struct {
	Topic         string
	Payload       []byte
	ReceiveTimeMs uint64
	raw           *raw
}

// Header is a header of a message.
type Header struct {
	Name  string
	Value []byte
}

type pair struct{ name, value waypost.List }

// raw is a message as the router passes it.
type raw struct {
	position, marks                    uint32
	topic, headers, payload            waypost.List
	receiveTimeMs                      uint64
	key, contentType, messageID, reply waypost.Maybe
	hasTTL                             bool
	ttlMs                              uint64
}

// Header is the value of the first header with this name, if that header was asked for.
func (m *Message) Header(name string) ([]byte, bool) {
	for _, header := range waypost.Items[pair](m.raw.headers) {
		if waypost.Text(header.name) == name {
			return waypost.Items[byte](header.value), true
		}
	}
	return nil, false
}

// Headers are the headers that were asked for, in the publisher's order; names may repeat.
func (m *Message) Headers() []Header {
	pairs := waypost.Items[pair](m.raw.headers)
	headers := make([]Header, len(pairs))
	for i, header := range pairs {
		headers[i] = Header{waypost.Text(header.name), waypost.Items[byte](header.value)}
	}
	return headers
}

// Key is the key, if there is one and "key" was asked for.
func (m *Message) Key() ([]byte, bool) {
	return waypost.Items[byte](m.raw.key.Value), m.raw.key.Some
}

// ContentType is the content type, if there is one and "content-type" was asked for.
func (m *Message) ContentType() (string, bool) {
	return waypost.Text(m.raw.contentType.Value), m.raw.contentType.Some
}

// MessageID is the message id, if there is one and "message-id" was asked for.
func (m *Message) MessageID() ([]byte, bool) {
	return waypost.Items[byte](m.raw.messageID.Value), m.raw.messageID.Some
}

// ReplyTo is the topic for an answer, if there is one and "reply-to" was asked for.
func (m *Message) ReplyTo() (string, bool) {
	return waypost.Text(m.raw.reply.Value), m.raw.reply.Some
}

// TTLMs is what is left of the time-to-live, if there is one and "ttl" was asked for.
func (m *Message) TTLMs() (uint64, bool) { return m.raw.ttlMs, m.raw.hasTTL }

// Outcome is what is said of a message. Texts of it are copied when it is made.
type Outcome struct {
	tag  uint8
	edit waypost.RawEdit // the longest member of the variant; the others lie over its beginning
}

type words struct {
	_     [8]byte
	words [3]uint32
}

func of(tag uint8, first, second, third uint32) Outcome {
	outcome := Outcome{tag: tag}
	(*words)(unsafe.Pointer(&outcome)).words = [3]uint32{first, second, third}
	return outcome
}

func ofText(tag uint8, text string) Outcome {
	list := waypost.Place(text)
	return of(tag, list.At, list.Len, 0)
}

// Pass lets it go on as it is.
func Pass() Outcome { return Outcome{} }

// Drop ends it here; the reason may be empty.
func Drop(reason string) Outcome {
	text, some := waypost.Place(reason), uint32(0)
	if reason != "" {
		some = 1
	}
	return of(1, some, text.At, text.Len)
}

// Edit lets it go on with changes.
func Edit(edit *waypost.Edit) Outcome { return Outcome{2, edit.Raw()} }

// Emit lets these go on instead of it, in this order.
func Emit(messages ...waypost.Outgoing) Outcome {
	list := waypost.PlaceMessages(messages)
	return of(3, list.At, list.Len, 0)
}

// To sends it to these destinations, by their indexes.
func To(destinations ...uint32) Outcome {
	items, list := waypost.Room[uint32](len(destinations))
	copy(items, destinations)
	return of(4, list.At, list.Len, 0)
}

// Reject refuses it; the publisher hears the reason.
func Reject(reason string) Outcome { return ofText(5, reason) }

// Retry tries it again after so many ms; 0 leaves it to the router.
func Retry(afterMs uint32) Outcome { return of(6, afterMs, 0, 0) }

// DeadLetter sends it to the dead-letter queue.
func DeadLetter(reason string) Outcome { return ofText(7, reason) }

type result struct {
	failed  bool
	outcome Outcome
}

var (
	answer  func(*Message) Outcome
	message Message
	given   result
)

// Handle says what answers for a message. Call it in an init function of the program.
func Handle(function func(*Message) Outcome) { answer = function }

//go:wasmexport waypost:plugin/each@0.1.1#on-message
func onMessage(at uint32) uint32 {
	defer waypost.End()
	from := &waypost.Items[raw](waypost.List{At: at, Len: 1})[0]
	message = Message{
		Topic:         waypost.Text(from.topic),
		Payload:       waypost.Items[byte](from.payload),
		ReceiveTimeMs: from.receiveTimeMs,
		raw:           from,
	}
	given = result{outcome: answer(&message)}
	return waypost.Address(&given)
}
