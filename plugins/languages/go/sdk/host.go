package waypost

import "unsafe"

// Level is how much a line of the log matters.
type Level uint32

// The levels.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

//go:wasmimport waypost:plugin/log@0.1.1 log
func importLog(level uint32, at unsafe.Pointer, length uint32)

// Log writes a line to the router's log.
func Log(level Level, line string) {
	importLog(uint32(level), unsafe.Pointer(unsafe.StringData(line)), uint32(len(line)))
}

//go:wasmimport waypost:plugin/clock@0.1.1 now-ms
func importNowMs() uint64

//go:wasmimport waypost:plugin/clock@0.1.1 monotonic-ns
func importMonotonicNs() uint64

// NowMs is the wall clock, in ms since 1970; it may jump. (time.Now is no clock in a plugin.)
func NowMs() uint64 { return importNowMs() }

// MonotonicNs is a clock that never goes back, in ns from an arbitrary start.
func MonotonicNs() uint64 { return importMonotonicNs() }

//go:wasmimport waypost:plugin/random@0.1.1 number
func importRandom() uint64

// Random is a number that nobody can guess. (math/rand and crypto/rand are not, in a plugin.)
func Random() uint64 { return importRandom() }

// Counter is a number that only grows.
type Counter uint32

// Gauge is a number that goes up and down.
type Gauge uint32

// Histogram is a distribution of numbers.
type Histogram uint32

//go:wasmimport waypost:plugin/metrics@0.1.1 counter
func importCounter(at unsafe.Pointer, length uint32) uint32

//go:wasmimport waypost:plugin/metrics@0.1.1 gauge
func importGauge(at unsafe.Pointer, length uint32) uint32

//go:wasmimport waypost:plugin/metrics@0.1.1 histogram
func importHistogram(at unsafe.Pointer, length uint32) uint32

//go:wasmimport waypost:plugin/metrics@0.1.1 add
func importAdd(handle uint32, delta uint64)

//go:wasmimport waypost:plugin/metrics@0.1.1 set
func importSet(handle uint32, value float64)

//go:wasmimport waypost:plugin/metrics@0.1.1 observe
func importObserve(handle uint32, value float64)

// NewCounter registers a counter; call it while init runs. The name is [a-z][a-z0-9_]*.
func NewCounter(name string) Counter {
	return Counter(importCounter(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name))))
}

// NewGauge registers a gauge, as NewCounter does.
func NewGauge(name string) Gauge {
	return Gauge(importGauge(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name))))
}

// NewHistogram registers a histogram, as NewCounter does.
func NewHistogram(name string) Histogram {
	return Histogram(importHistogram(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name))))
}

// Add adds to it.
func (c Counter) Add(delta uint64) { importAdd(uint32(c), delta) }

// Set sets it.
func (g Gauge) Set(value float64) { importSet(uint32(g), value) }

// Observe records one value.
func (h Histogram) Observe(value float64) { importObserve(uint32(h), value) }
