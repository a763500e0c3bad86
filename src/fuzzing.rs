//! The doors of the fuzzer: the parsers of what others write, with what must hold of each.
//!
//! Built only with `--cfg fuzzing`. Owns nothing: each door leads to the check that the properties of
//! its module use too, which panics where something does not hold.

/// Any bytes in place of an answer of Plex.
pub fn plex_answer(body: &[u8]) {
    crate::plex::hostile::check(body);
}

/// Any bytes in place of an answer of plex.tv or of a feed.
pub fn plex_tv(body: &[u8]) {
    crate::plex::hostile::outside::check(body);
}

/// Any text in place of a path of Plex.
pub fn path(text: &str) {
    crate::plex::hostile::check_path(text);
}

/// Any text in place of the configuration.
pub fn config(text: &str) {
    crate::config::hostile::check(text);
}

/// Any bytes in place of the history, and of the saved index.
pub fn history(text: &[u8]) {
    crate::history::hostile::check_lines(text);
    crate::history::hostile::check_index(text);
}
