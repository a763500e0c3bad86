//! plexcache.

pub mod paths;
pub mod secret;
