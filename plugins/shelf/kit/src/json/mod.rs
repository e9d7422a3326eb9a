//! JSON as text: values are found where they stand, and nothing is built of the rest.
//!
//! A payload is checked whole while it is searched, by the grammar of RFC 8259, so that what is
//! found never lies in something that is not JSON. Nesting is bounded by [`DEPTH_MAX`].

pub mod edit;
pub mod number;
pub mod path;
pub mod scan;
pub mod tree;
pub mod value;
pub mod write;

pub use number::Number;
pub use path::Path;
pub use scan::{Found, NotJson, Paths};
pub use tree::Tree;
pub use value::{Kind, Value};

/// How deep a payload may be nested: one level takes about 200 bytes of a guest's 64 KiB of stack.
pub const DEPTH_MAX: usize = 128;
