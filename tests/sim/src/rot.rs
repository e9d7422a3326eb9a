//! Synced bytes change on the disk. Losses may follow, but nothing damaged is served, nothing
//! panics, and the run goes on.
