//! Any text in place of a path of Plex.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| plexcache::fuzzing::path(text));
