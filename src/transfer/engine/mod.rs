//! The copy engine: contents and metadata of open files. Knows nothing of names or placements.

mod copy;
mod device;
mod ends;
mod flow;
pub(super) mod metadata;
mod outcome;
mod readback;
#[cfg(test)]
mod samples;
mod stream;
pub(super) mod sys;

pub(super) use copy::{Copied, Written, write_contents};
pub use copy::{CopyOptions, Verify};
pub use outcome::{CopyError, Stop, Watch};
pub(super) use readback::{checksum, same_contents};
