//! The words of the configuration: durations, sizes, rates, paths and the fixed choices.
//!
//! Owns how a value is written. Everything here is parsed from text and shows itself as text that
//! parses back to the same value, so that a message, a report or a written configuration can be
//! pasted into the file. Refused are guesses: a number without a unit is a size in bytes, never a
//! duration, and `G` alone is nothing, as it means 1000 to some and 1024 to others.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

const DURATION: &str = "a duration such as `90s`, `15m`, `48h`, `30d`, `2w` or `1d12h`, or `0`";
const DURATION_OR_OFF: &str = "a duration such as `48h` or `30d`, or `off`";
const SIZE: &str = "a size such as `500GB`, `1.5TiB` or `60%`, or a number of bytes";
const BYTES: &str = "a size such as `500GB` or `1.5TiB`, or a number of bytes";
const RATE: &str = "a rate such as `50MB/s`, more than 0";
const RATE_OR_OFF: &str = "a rate such as `50MB/s`, or `off`";
const JOBS: &str = "1 or 2";
const PATH: &str = "an absolute path without `..`";
const URL: &str = "an address such as `http://127.0.0.1:32400`, without user, `?` and `#`";

/// A text that is no value of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found \"{found}\", expected {expected}")]
pub struct BadValue {
    found: String,
    expected: &'static str,
}

impl BadValue {
    pub(super) fn new(found: &str, expected: &'static str) -> Self {
        Self { found: found.to_owned(), expected }
    }
}

/// The units of a duration in seconds, largest first.
const SPANS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A hundred years: beyond any use, and small enough that adding it to a date cannot overflow.
const LONGEST: u64 = 36_500 * 86_400;

/// Parses `90s`, `15m`, `48h`, `30d`, `2w`, a sum of these (`1d12h`), or `0`. Whole seconds.
///
/// # Errors
/// Anything else, and durations of more than a hundred years.
pub fn parse_duration(text: &str) -> Result<Duration, BadValue> {
    seconds(text).filter(|&s| s <= LONGEST).map(Duration::from_secs).ok_or_else(|| BadValue::new(text, DURATION))
}

fn seconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0_u64;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        let unit = rest[end..].chars().next()?;
        let (_, length) = SPANS.iter().find(|(letter, _)| *letter == unit)?;
        total = total.checked_add(number.checked_mul(*length)?)?;
        rest = &rest[end + unit.len_utf8()..];
        if rest.is_empty() {
            return Some(total);
        }
    }
}

/// Shows a duration the way [`parse_duration`] reads it, to the second: `2d`, `1h30m`, `0`.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    if rest == 0 {
        return "0".to_owned();
    }
    let mut text = String::new();
    // No weeks: `14d` and `180d` say more than `2w` and `25w5d`.
    for (unit, length) in &SPANS[1..] {
        if rest >= *length {
            text += &(rest / length).to_string();
            text.push(*unit);
            rest %= length;
        }
    }
    text
}

/// The units of a size in bytes, largest first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Parses a number of bytes with an optional unit: `KB MB GB TB` (1000) or `KiB MiB GiB TiB` (1024).
///
/// # Errors
/// Anything else, percentages too.
pub fn parse_bytes(text: &str) -> Result<u64, BadValue> {
    bytes(text).ok_or_else(|| BadValue::new(text, BYTES))
}

fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    let scale = match unit {
        "" => 1,
        _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let digits = u32::try_from(fraction.len()).ok()?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale) / 10_u128.pow(digits);
    whole.checked_add(u64::try_from(part).ok()?)
}

/// Shows bytes exactly, with the largest unit that needs no fraction.
fn format_bytes(bytes: u64) -> String {
    match UNITS.iter().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale)) {
        Some((unit, scale)) if *scale > 1 => format!("{}{unit}", bytes / scale),
        _ => bytes.to_string(),
    }
}

/// A plain decimal number from 0 to 100; what else is a number to Rust (`1e1`, `NaN`) is none here.
fn percent(number: &str) -> Option<f64> {
    let plain = number.starts_with(|c: char| c.is_ascii_digit()) && !number.contains(|c: char| c.is_alphabetic());
    number.parse().ok().filter(|percent| plain && (0.0..=100.0).contains(percent))
}

/// An amount of a file system: bytes, or a share of all of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// So many bytes.
    Bytes(u64),
    /// From 0 to 100.
    Percent(f64),
}

impl Size {
    /// The bytes it means on a file system of `total` bytes.
    pub fn of(&self, total: u64) -> u64 {
        match *self {
            Self::Bytes(bytes) => bytes,
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a file system need not be exact to the byte, and lies between 0 and the total"
            )]
            Self::Percent(percent) => ((total as f64 * (percent / 100.0)) as u64).min(total),
        }
    }
}

impl FromStr for Size {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let size = match text.strip_suffix('%') {
            Some(number) => percent(number).map(Self::Percent),
            None => bytes(text).map(Self::Bytes),
        };
        size.ok_or_else(|| BadValue::new(text, SIZE))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.pad(&format_bytes(*bytes)),
            Self::Percent(percent) => f.pad(&format!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, SIZE, str::parse)
    }
}

/// A number of bytes per second, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// Bytes per second, at least 1.
    pub fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        bytes(text.strip_suffix("/s").unwrap_or(text))
            .filter(|&rate| rate > 0)
            .map(Self)
            .ok_or_else(|| BadValue::new(text, RATE))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", format_bytes(self.0)))
    }
}

/// Declares a choice between fixed words: the enum, its words in files and its `Display`.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? })+) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $word,)+ })
            }
        }
    )+ };
}

words! {
    /// How a map shows a cached file to Plex.
    Placement {
        /// A second copy on the cache; the original is not touched.
        Copy = "copy",
        /// A second copy, and the original renamed so that the merged view shows the copy.
        Hide = "hide",
        /// The only copy goes to the cache.
        Move = "move",
        /// The original's name becomes a symbolic link to the copy.
        Symlink = "symlink",
    }
    /// Which versions of an item count.
    Versions { All = "all", Largest = "largest", Smallest = "smallest" }
    /// Which files that belong to a video go with it.
    Sidecars { None = "none", Subtitles = "subtitles", All = "all" }
    /// How a copy is compared with its source.
    Verify {
        /// Both are read and compared by checksum.
        Checksum = "checksum",
        /// Only their sizes are compared.
        Size = "size",
    }
    /// What the host does that a run keeps out of the way of.
    HostTask { Mover = "mover", ParityCheck = "parity-check" }
}

/// An absolute path without `.`, `..`, doubled or trailing slashes.
pub(super) struct AbsolutePath(pub(super) Utf8PathBuf);

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, PATH, |text| {
            let path = Utf8Path::new(text);
            let leads_up = path.components().any(|component| component == Utf8Component::ParentDir);
            if !path.is_absolute() || leads_up || text.contains('\0') {
                return Err(BadValue::new(text, PATH));
            }
            Ok(Self(path.components().collect()))
        })
    }
}

pub(super) fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Utf8PathBuf>, D::Error> {
    AbsolutePath::deserialize(deserializer).map(|path| Some(path.0))
}

pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Utf8PathBuf>, D::Error> {
    let paths = BTreeMap::<String, AbsolutePath>::deserialize(deserializer)?;
    Ok(paths.into_iter().map(|(name, path)| (name, path.0)).collect())
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    scalar(deserializer, DURATION, parse_duration)
}

pub(super) fn duration_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    scalar(deserializer, DURATION_OR_OFF, |text| match text {
        "off" => Ok(None),
        _ => parse_duration(text).map(Some),
    })
}

pub(super) fn rate_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    scalar(deserializer, RATE_OR_OFF, |text| match text {
        "off" => Ok(None),
        _ => text.parse().map(Some),
    })
}

pub(super) fn jobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    // Wide enough for the message to show what was written.
    let jobs = i64::deserialize(deserializer)?;
    let checked = u8::try_from(jobs).ok().filter(|jobs| (1..=2).contains(jobs));
    checked.ok_or_else(|| D::Error::invalid_value(Unexpected::Signed(jobs), &JOBS))
}

pub(super) fn optional_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    url(deserializer).map(Some)
}

/// An `http` or `https` address, without trailing slashes. What is refused is shown without the
/// parts in which people paste tokens and passwords.
pub(super) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let good = rest.is_some_and(|rest| {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '\\' | '"' | '<' | '>');
        rest.chars().all(plain) && !rest.starts_with(['/', ':'])
    });
    if good && rest != Some("") {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    // A password may hold `?` and `#`, so what follows the first of them is no host for certain.
    let cut = text.find(['?', '#']).unwrap_or(text.len());
    let shown = match text[..cut].rsplit_once('@') {
        Some((_, host)) => host,
        None if text[cut..].contains('@') => "something else (not shown)",
        None => &text[..cut],
    };
    Err(D::Error::invalid_value(Unexpected::Str(shown), &URL))
}

/// Reads a value that is written as text.
pub(super) fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl Fn(&str) -> Result<T, BadValue>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Written { expected, parse, numbers: false })
}

/// Reads a value that is written as text, or as a whole number that means the same as its digits.
fn scalar<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl Fn(&str) -> Result<T, BadValue>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Written { expected, parse, numbers: true })
}

/// Parses within the visit, so that the complaint carries the place of this very value in its list.
struct Written<F> {
    expected: &'static str,
    parse: F,
    numbers: bool,
}

impl<T, F: Fn(&str) -> Result<T, BadValue>> Visitor<'_> for Written<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self.expected))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let value = self.numbers.then(|| (self.parse)(&number.to_string()).ok()).flatten();
        value.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self.expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_sums_of_whole_units() {
        for (text, seconds) in [
            ("0", 0),
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("48h", 172_800),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
            ("1d12h", 129_600),
            ("36500d", LONGEST),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "h", "1.5h", "-1h", "+1h", "1h ", "1 h", "1H", "1h30", "off", "36501d", "1é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("18446744073709551615w").is_err());
        assert!(parse_duration("99999999999999999999s").is_err());
    }

    #[test]
    fn durations_are_shown_without_weeks() {
        for (text, shown) in [("48h", "2d"), ("2w", "14d"), ("90s", "1m30s"), ("0", "0"), ("1d12h", "1d12h")] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), shown);
        }
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("7B", 7),
            ("1KB", 1_000),
            ("1KiB", 1_024),
            ("500GB", 500_000_000_000),
            ("500 gb", 500_000_000_000),
            ("1.5TB", 1_500_000_000_000),
            ("0.5GiB", 536_870_912),
            ("16777215TiB", 18_446_742_974_197_923_840),
        ] {
            assert_eq!(text.parse(), Ok(Size::Bytes(bytes)), "{text}");
        }
        for text in ["", "GB", "-1", "1G", "1k", "1..5GB", ".5GB", "1.GB", "16777216TiB", "1e3", "101%", "-1%", "%"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["NaN%", "inf%", "1e1%", "+1%", "5%%", "5 %"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_never_more_than_the_whole() {
        assert_eq!(Size::Percent(60.0).of(1_000), 600);
        assert_eq!(Size::Percent(0.0).of(u64::MAX), 0);
        assert_eq!(Size::Percent(100.0).of(u64::MAX), u64::MAX);
        assert_eq!(Size::Bytes(5).of(1), 5);
    }

    #[test]
    fn a_rate_is_a_size_per_second_and_not_zero() {
        for text in ["50MB", "50MB/s", "50000000"] {
            assert_eq!(text.parse::<Rate>().map(Rate::bytes_per_second), Ok(50_000_000), "{text}");
        }
        for text in ["0", "0MB/s", "10%", "off", "/s", "1MB/h"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_words_are_the_same_in_files_and_messages() {
        for (placement, word) in [(Placement::Copy, "copy"), (Placement::Symlink, "symlink")] {
            assert_eq!(placement.to_string(), word);
            assert_eq!(serde_json::to_string(&placement).unwrap(), format!("\"{word}\""));
        }
        assert_eq!(serde_json::from_str::<HostTask>("\"parity-check\"").unwrap(), HostTask::ParityCheck);
    }

    proptest! {
        #[test]
        fn a_shown_duration_parses_back(seconds in 0..=LONGEST) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_shown_size_parses_back(number: u64, scale in 0..9_usize) {
            let bytes = number / UNITS[scale].1 * UNITS[scale].1;
            prop_assert_eq!(Size::Bytes(bytes).to_string().parse(), Ok(Size::Bytes(bytes)));
            if bytes > 0 {
                prop_assert_eq!(Rate(bytes).to_string().parse(), Ok(Rate(bytes)));
            }
        }

        #[test]
        fn a_shown_share_parses_back(percent in 0.0..=100.0_f64) {
            prop_assert_eq!(Size::Percent(percent).to_string().parse(), Ok(Size::Percent(percent)));
        }

        #[test]
        fn whatever_is_accepted_is_shown_in_a_form_that_parses_back(
            text in "[0-9]{1,6}(\\.[0-9]{1,3})? ?(|[smhdw]|[KMGTkmgt]i?[Bb]|%|B/s)([0-9]{1,3}[smhdw])?",
        ) {
            if let Ok(duration) = parse_duration(&text) {
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            }
            if let Ok(size) = text.parse::<Size>() {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
            if let Ok(rate) = text.parse::<Rate>() {
                prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".*") {
            prop_assert!(text == "0" || parse_duration(&text).is_err() || text.ends_with(['s', 'm', 'h', 'd', 'w']));
            prop_assert!(text.parse::<Size>().is_err() || text.starts_with(|c: char| c.is_ascii_digit()));
            prop_assert!(text.parse::<Rate>().is_err() || text.starts_with(|c: char| c.is_ascii_digit()));
        }
    }
}
