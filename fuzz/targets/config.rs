//! Any text in place of the configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| plexcache::fuzzing::config(text));
