package waypost

// Edit is changes to a message; what is not set stays, byte for byte. Headers are removed first,
// then set.
type Edit struct{ raw RawEdit }

// RawEdit is an Edit as the router reads it.
type RawEdit struct {
	topic, key, contentType Maybe
	remove, set             List
	payload                 Maybe
	ttl                     maybe64
}

// Outgoing is a message that a plugin makes.
type Outgoing struct {
	Topic string
	// Key, ContentType and ReplyTo are absent where they are empty.
	Key                  []byte
	ContentType, ReplyTo string
	Headers              []Header
	Payload              []byte
	// TTLMs is none where it is 0.
	TTLMs uint64
}

// Header is a header of a message that a plugin makes.
type Header struct {
	Name  string
	Value []byte
}

type rawOutgoing struct {
	topic                     List
	key, contentType, replyTo Maybe
	headers, payload          List
	ttl                       maybe64
}

func some(list List) Maybe { return Maybe{true, list} }

// NewEdit changes nothing yet. It belongs to the present call.
func NewEdit() *Edit { return new(Edit) }

// Raw is the edit as the router reads it.
func (e *Edit) Raw() RawEdit { return e.raw }

// Topic sets another topic.
func (e *Edit) Topic(topic string) *Edit {
	e.raw.topic = some(Place(topic))
	return e
}

// Key sets another key; an empty one removes it.
func (e *Edit) Key(key []byte) *Edit {
	e.raw.key = some(placeBytes(key))
	return e
}

// ContentType sets another content type; an empty one removes it.
func (e *Edit) ContentType(contentType string) *Edit {
	e.raw.contentType = some(Place(contentType))
	return e
}

// Payload sets another payload.
func (e *Edit) Payload(payload []byte) *Edit {
	e.raw.payload = some(placeBytes(payload))
	return e
}

// TTLMs sets another time-to-live in ms; 0 for none.
func (e *Edit) TTLMs(ms uint64) *Edit {
	e.raw.ttl = maybe64{true, ms}
	return e
}

// Header sets a header, in place of all of that name.
func (e *Edit) Header(name, value string) *Edit {
	e.raw.set = more(e.raw.set, pair{Place(name), Place(value)})
	return e
}

// WithoutHeader removes all headers of that name.
func (e *Edit) WithoutHeader(name string) *Edit {
	e.raw.remove = more(e.raw.remove, Place(name))
	return e
}

// more appends to a list of an answer. It doubles when its length is a power of two.
func more[T any](list List, item T) List {
	old := Items[T](list)
	if n := len(old); n&(n-1) == 0 {
		room, grown := Room[T](max(1, 2*n))
		copy(room, old)
		list.At = grown.At
	}
	list.Len++
	Items[T](list)[list.Len-1] = item
	return list
}

func maybeText(text string) Maybe { return Maybe{text != "", Place(text)} }

func (o *Outgoing) lower() rawOutgoing {
	headers, list := Room[pair](len(o.Headers))
	for i, header := range o.Headers {
		headers[i] = pair{Place(header.Name), placeBytes(header.Value)}
	}
	return rawOutgoing{
		topic:       Place(o.Topic),
		key:         Maybe{len(o.Key) > 0, placeBytes(o.Key)},
		contentType: maybeText(o.ContentType),
		replyTo:     maybeText(o.ReplyTo),
		headers:     list,
		payload:     placeBytes(o.Payload),
		ttl:         maybe64{o.TTLMs > 0, o.TTLMs},
	}
}

// PlaceMessages puts messages where the router can read them when the call has ended.
func PlaceMessages(messages []Outgoing) List {
	room, list := Room[rawOutgoing](len(messages))
	for i := range messages {
		room[i] = messages[i].lower()
	}
	return list
}

// Answers is what a call of a whole batch gives: a list, or why it failed.
type Answers struct {
	failed bool
	// The list of answers and, of a filter, that of reasons; or the kind and words of an error.
	words [4]uint32
}

// Set makes it a list, and a list of reasons where there is one.
func (a *Answers) Set(list, reasons List) {
	a.failed = false
	a.words = [4]uint32{list.At, list.Len, reasons.At, reasons.Len}
}

// Fail makes it the error that the plugin cannot go on.
func (a *Answers) Fail(message string) {
	text := Place(message)
	a.failed = true
	a.words = [4]uint32{2, text.At, text.Len}
}

// BadBatch is what is said of a batch that cannot be read.
const BadBatch = "the batch's index does not hold its messages"
