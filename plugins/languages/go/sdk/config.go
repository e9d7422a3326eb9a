package waypost

import (
	"strconv"
	"strings"
)

// Setting is a setting of the plugin's configuration.
type Setting struct{ Name, Value string }

// Config is what init gets.
type Config struct {
	// Plugin is the name in the router's configuration.
	Plugin string
	// Role is "filter", "transform", "route" or "each": what this instance will be called for.
	Role string
	// Instance is a number that no other living instance of this plugin has.
	Instance uint32
	// Settings are in the order of the configuration file.
	Settings []Setting
	// Destinations are what the indexes of a route's answers count into.
	Destinations []string
}

// InitError is why a plugin refuses to start.
type InitError struct {
	// Setting is the setting at fault, if it is one.
	Setting string
	Message string
}

func (e *InitError) Error() string { return e.Message }

// Refuse makes an InitError of one setting.
func Refuse(setting, message string) error { return &InitError{setting, message} }

// Get is the value of a setting, of the last one of that name.
func (c *Config) Get(name string) (string, bool) {
	for i := len(c.Settings) - 1; i >= 0; i-- {
		if c.Settings[i].Name == name {
			return c.Settings[i].Value, true
		}
	}
	return "", false
}

// Number is a setting that is a number, or fallback without it.
func (c *Config) Number(name string, fallback float64) (float64, error) {
	text, ok := c.Get(name)
	if !ok {
		return fallback, nil
	}
	number, ok := ParseNumber([]byte(text))
	if !ok {
		return 0, Refuse(name, "'"+text+"' is not a number")
	}
	return number, nil
}

// Allow refuses settings that are not known, so that a slip of the pen is not passed over.
func (c *Config) Allow(known ...string) error {
	for _, setting := range c.Settings {
		is := false
		for _, name := range known {
			is = is || name == setting.Name
		}
		if !is {
			message := "unknown setting, expected one of " + strings.Join(known, ", ")
			return Refuse(setting.Name, message)
		}
	}
	return nil
}

// Destination is the index of a destination of the route.
func (c *Config) Destination(name string) (uint32, bool) {
	for i, destination := range c.Destinations {
		if destination == name {
			return uint32(i), true
		}
	}
	return 0, false
}

// Interest is what the router must copy in for this plugin. Topic, marks and receive time always
// are.
type Interest struct {
	// Headers are asked for by name.
	Headers []string
	// AllHeaders asks for all.
	AllHeaders bool
	// Payload asks for the whole payload.
	Payload bool
	// PayloadPrefix asks for the first so many bytes.
	PayloadPrefix uint32
	// Fields are any of "key", "content-type", "message-id", "reply-to", "ttl".
	Fields []string
	// MaxBatch is the most messages that one call may hold; 0 leaves it to the router.
	MaxBatch uint32
}

var start func(*Config) (Interest, error)

// Init says what reads the settings: once for each instance, before anything else. Call it in an
// init function of the program.
func Init(function func(*Config) (Interest, error)) { start = function }

type initResult struct {
	failed bool
	// of an interest: header kind and names, payload kind and prefix, fields, most messages;
	// of an error: setting, message
	words [8]uint32
}

var theInit initResult

//go:wasmexport waypost:plugin/lifecycle@0.1.1#init
func initPlugin(plugin, pluginLen, role, roleLen, instance, settings, settingsLen, destinations,
	destinationsLen uint32) uint32 {
	config := Config{
		Plugin:   strings.Clone(Text(List{plugin, pluginLen})),
		Role:     strings.Clone(Text(List{role, roleLen})),
		Instance: instance,
	}
	for _, setting := range Items[pair](List{settings, settingsLen}) {
		config.Settings = append(config.Settings, Setting{
			strings.Clone(Text(setting.name)),
			strings.Clone(Text(setting.value)),
		})
	}
	for _, name := range Items[List](List{destinations, destinationsLen}) {
		config.Destinations = append(config.Destinations, strings.Clone(Text(name)))
	}
	defer End()
	var interest Interest
	err := Refuse("", "the program calls no waypost.Init")
	if start != nil {
		interest, err = start(&config)
	}
	theInit.failed = err != nil
	if err != nil {
		theInit.words = lowerInitError(err)
	} else {
		theInit.words = lowerInterest(&interest)
	}
	return Address(&theInit)
}

func lowerInitError(err error) [8]uint32 {
	setting := ""
	if refused, ok := err.(*InitError); ok {
		setting = refused.Setting
	}
	name, message := Place(setting), Place(err.Error())
	some := uint32(0)
	if setting != "" {
		some = 1
	}
	return [8]uint32{some, name.At, name.Len, message.At, message.Len}
}

func lowerInterest(interest *Interest) [8]uint32 {
	headers, payload := uint32(0), uint32(0)
	switch {
	case interest.AllHeaders:
		headers = 2
	case len(interest.Headers) > 0:
		headers = 1
	}
	switch {
	case interest.Payload:
		payload = 2
	case interest.PayloadPrefix > 0:
		payload = 1
	}
	names, fields := placeList(interest.Headers), placeList(interest.Fields)
	return [8]uint32{headers, names.At, names.Len, payload, interest.PayloadPrefix, fields.At,
		fields.Len, interest.MaxBatch}
}

func placeList(texts []string) List {
	items, list := Room[List](len(texts))
	for i, text := range texts {
		items[i] = Place(text)
	}
	return list
}

var tens = [23]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
	1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// ParseNumber reads a number as JSON writes it, with nothing around it.
func ParseNumber(text []byte) (float64, bool) {
	at, digits, count, places := 0, uint64(0), 0, 0
	run := func() bool {
		start := at
		for at < len(text) && text[at]-'0' < 10 {
			digits = digits*10 + uint64(text[at]-'0')
			at++
		}
		count += at - start
		return at > start
	}
	if at < len(text) && text[at] == '-' {
		at++
	}
	whole := at
	if !run() || (text[whole] == '0' && at > whole+1) {
		return 0, false
	}
	if at < len(text) && text[at] == '.' {
		at++
		point := at
		if !run() {
			return 0, false
		}
		places = at - point
	}
	if at == len(text) && count < 16 {
		// Both are exact, so the quotient is the nearest double.
		number := float64(digits) / tens[places]
		if whole > 0 {
			number = -number
		}
		return number, true
	}
	if at < len(text) && text[at]|0x20 == 'e' {
		at++
		if at < len(text) && (text[at] == '+' || text[at] == '-') {
			at++
		}
		if !run() {
			return 0, false
		}
	}
	if at != len(text) {
		return 0, false
	}
	number, err := strconv.ParseFloat(string(text), 64)
	return number, err == nil
}
