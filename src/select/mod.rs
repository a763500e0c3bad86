//! Sources to ranked wants.

mod want;

pub use want::{Class, FileKey, Rank, Reason, Source, Want};
