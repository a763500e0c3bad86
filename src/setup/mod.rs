//! Getting there: what `init` proposes and `check` proves. Reads only, and prints nothing.

pub mod proof;
