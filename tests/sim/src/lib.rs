//! Waypost tests: sim.
