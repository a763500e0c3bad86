//! The words that all reports share: sizes, times, reasons, and foreign text made harmless.
//!
//! Pure. Nothing foreign (titles, paths, names, errors) may be shown without having gone through
//! [`visible`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::FileStatus;
use crate::plan::{EvictWhy, Why};
use crate::select::{Reasons, Source};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Foreign text on one line: what would steer a terminal, break the line or turn its direction is shown
/// as `\u{..}`.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.extend(c.escape_unicode()),
            c if c.is_control() => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// `41.8 GiB`, `212 MiB`, `17 KiB`, `9 B`.
pub(crate) fn size(bytes: u64) -> String {
    // From where the smaller unit would round up to 1024 of itself.
    if bytes >= GIB - MIB / 2 {
        format!("{} GiB", gib(bytes))
    } else if bytes >= MIB - KIB / 2 {
        format!("{} MiB", rounded(bytes, MIB))
    } else if bytes >= KIB {
        format!("{} KiB", rounded(bytes, KIB))
    } else {
        format!("{bytes} B")
    }
}

/// `551.0 of 931.0 GiB`; each in its own unit where the first is small.
pub(super) fn size_of(part: u64, whole: u64) -> String {
    if part >= GIB && whole >= GIB {
        format!("{} of {} GiB", gib(part), gib(whole))
    } else {
        format!("{} of {}", size(part), size(whole))
    }
}

fn gib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10 + u128::from(GIB / 2)) / u128::from(GIB);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn rounded(bytes: u64, unit: u64) -> u64 {
    bytes.saturating_add(unit / 2) / unit
}

/// `<1s`, `31s`, `3m52s`, `1h05m`, `2d03h`.
pub(super) fn duration(taken: Duration) -> String {
    match taken.as_secs() {
        0 => "<1s".to_owned(),
        s @ 1..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        s @ 3600..86400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        s => format!("{}d{:02}h", s / 86400, s % 86400 / 3600),
    }
}

/// `1 file`, `7 files`.
pub(super) fn count(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// Reasons by source, each with its users or globs: `on deck: anna, ben; pinned: **/Kids/**`.
pub(super) fn reasons(reasons: &Reasons) -> String {
    let mut by_source: BTreeMap<Source, Vec<String>> = BTreeMap::new();
    for reason in reasons {
        by_source.entry(reason.source).or_default().extend(reason.of_what().map(visible));
    }
    let words: Vec<String> = by_source
        .into_iter()
        .map(|(source, whats)| match whats.as_slice() {
            [] => source.words().to_owned(),
            whats => format!("{}: {}", source.words(), whats.join(", ")),
        })
        .collect();
    words.join("; ")
}

/// As a person reads it.
pub(super) fn why_words(why: Why) -> &'static str {
    match why {
        Why::NoRoom => "no room",
        Why::Playing => "playing now",
        Why::Open => "open",
        Why::Held => "held by an undo",
        Why::Pinned => "pinned",
        Why::Changed => "changed",
        Why::Unmapped => "not below any map",
        Why::HardLinked => "hard-linked",
        Why::TooYoung => "too young",
        Why::Conflict => "conflict",
        Why::Missing => "missing",
        Why::NotOurs => "not ours",
        Why::NotCacheable => "its map is not cacheable",
        Why::Unknown => "not known who wants it",
        Why::Unavailable => "not available",
        Why::NotReached => "not reached",
    }
}

/// As a person reads it.
pub(super) fn evict_words(why: EvictWhy) -> &'static str {
    match why {
        EvictWhy::Watched => "watched",
        EvictWhy::Unwanted => "left the lists",
        EvictWhy::MaxAge => "cached for too long",
        EvictWhy::MakeRoom => "makes room",
        EvictWhy::Asked => "asked for",
        EvictWhy::Undo => "undo",
        EvictWhy::Gone => "the copy is gone",
        EvictWhy::Unreadable => "Plex cannot read it",
        EvictWhy::Replaced => "the original was replaced",
    }
}

/// What Plex has no title for is known by its path.
pub(super) fn or_path<'a>(title: &'a str, path: &'a str) -> &'a str {
    if title.trim().is_empty() { path } else { title }
}

/// Bytes of all files together.
pub(super) fn bytes_of<'a>(files: impl IntoIterator<Item = &'a FileStatus>) -> u64 {
    files.into_iter().fold(0, |sum, file| sum.saturating_add(file.cached.action.size))
}

/// `just now`, `5 min ago`, `2 h ago`, `3 d ago`.
pub(super) fn age(now: Timestamp, at: Timestamp) -> String {
    match now.duration_since(at).as_secs() {
        ..60 => "just now".to_owned(),
        s @ 60..3600 => format!("{} min ago", s / 60),
        s @ 3600..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86400),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_one_decimal_from_one_gib_on() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (217_088, "212 KiB"),
            (MIB - 1, "1 MiB"),
            (GIB - 1, "1.0 GiB"),
            (GIB - MIB, "1023 MiB"),
            (GIB, "1.0 GiB"),
            (44_882_198_528, "41.8 GiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size_of(551 * GIB, 931 * GIB), "551.0 of 931.0 GiB");
        assert_eq!(size_of(5 * MIB, 931 * GIB), "5 MiB of 931.0 GiB");
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(0, "<1s"), (31, "31s"), (232, "3m52s"), (3900, "1h05m"), (183_600, "2d03h")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn controls_and_direction_overrides_are_shown_and_letters_are_not_touched() {
        assert_eq!(visible("a\x1b[2Jb\r\n\u{85}\u{7f}"), r"a\u{1b}[2Jb\u{d}\u{a}\u{85}\u{7f}");
        assert_eq!(visible("\u{202e}vkm\u{2066}\u{2028}"), r"\u{202e}vkm\u{2066}\u{2028}");
        assert_eq!(visible("Amélie 東京 · 'q'"), "Amélie 東京 · 'q'");
    }

    proptest! {
        #[test]
        fn nothing_foreign_can_steer_the_terminal(text in ".*") {
            prop_assert!(!visible(&text).chars().any(char::is_control));
        }
    }
}
