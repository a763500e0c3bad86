//! Any bytes in place of an answer of plex.tv or of a feed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| plexcache::fuzzing::plex_tv(body));
