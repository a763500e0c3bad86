//! Any bytes in place of the history, and of the saved index.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| plexcache::fuzzing::history(text));
