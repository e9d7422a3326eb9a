// Package schema makes a plugin one that tells its settings. Its world must include
// tells-settings.
package schema

import "waypost.local/waypost"

var (
	schema string
	answer waypost.List
)

// Is gives the JSON Schema of the settings, as one object of strings. Call it in an init function
// of the program.
func Is(json string) { schema = json }

//go:wasmexport waypost:plugin/schema@0.1.1#settings
func settings() uint32 {
	defer waypost.End()
	answer = waypost.Place(schema)
	return waypost.Address(&answer)
}
