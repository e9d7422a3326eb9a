//! What the plugins of the shelf share, so that a setting means the same in each of them.
//!
//! [`settings`] reads what an operator wrote, [`json`] finds values in a payload without building a
//! tree of it, [`subject`] is what can be looked at in a message, [`condition`] says something of
//! it, [`template`] makes text of it, [`fate`] is what becomes of a message that cannot be read, [`way`] where one goes.
//! Their words are documented in `docs/shelf.md`.

pub mod base64;
pub mod condition;
pub mod fate;
pub mod json;
pub mod key;
pub mod settings;
pub mod subject;
pub mod template;
pub mod topic;
pub mod way;

pub use condition::Condition;
pub use fate::{Fate, OnInvalid, Unread};
pub use key::By;
pub use settings::Settings;
pub use subject::{Seen, Subject, Subjects};
pub use template::Template;
