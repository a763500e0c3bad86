//! Any bytes in place of an answer of Plex.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| plexcache::fuzzing::plex_answer(body));
