//! End to end: a real node and real clients over loopback.
//!
//! Everything stands in the one test binary, `tests/e2e`: a node is started in the test's own
//! process, or, where it is to be killed, in a child that is this binary again. This library is
//! empty; the package exists for the tests.
