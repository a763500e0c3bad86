//! The real binary in throw-away worlds: everything that a user can see, point by point.
#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as it does, by a panic")]
#![allow(clippy::disallowed_methods, reason = "a test lays out its own files")]

mod util;

#[path = "cli/sync.rs"]
mod sync;
