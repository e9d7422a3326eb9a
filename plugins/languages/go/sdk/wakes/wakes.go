// Package wakes makes a plugin one that waypost.Timer can wake. Its world must include is-woken.
package wakes

import "waypost.local/waypost"

var (
	tick    func()
	answers waypost.Answers
)

// Handle says what runs when the timer is due. Call it in an init function of the program.
func Handle(function func()) { tick = function }

//go:wasmexport waypost:plugin/wakes@0.1.1#on-timer
func onTimer() uint32 {
	defer waypost.End()
	tick()
	answers.Set(waypost.List{}, waypost.List{})
	return waypost.Address(&answers)
}
