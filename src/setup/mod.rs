//! Getting there: what `init` proposes and `check` proves. Prints nothing, and only `write` changes anything:
//! the configuration, its token, and the missing folder of a cache root.

pub mod import;
pub mod preferences;
pub mod proof;
pub mod propose;
pub mod write;
