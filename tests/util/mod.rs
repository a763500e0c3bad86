//! What the tests share: a throw-away world to run the real binary in, and a stand-in Plex.

pub mod env;
pub mod fake_plex;
