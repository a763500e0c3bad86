//! The words of the human output: sizes, times, bars, and foreign text made harmless.
//!
//! Pure: what the terminal can show, the time and the time zone come in as a [`Look`]. Nothing foreign
//! (titles, paths, names, errors) may be printed without having gone through [`visible`].

use std::fmt::Write as _;
use std::time::Duration;

use crate::report::words::size;
use console::Style;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The columns that are assumed where there is no terminal.
const COLUMNS: usize = 100;

/// Cells between the brackets of a bar.
const BAR: usize = 20;

/// What the reader's screen can show, and where and when the reader is.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) color: bool,
    pub(super) utf8: bool,
    /// Columns; `None` when it is not a terminal, where nothing is cut off.
    pub(super) width: Option<usize>,
    pub(super) now: Timestamp,
    pub(super) zone: TimeZone,
}

/// What a colour says. The words say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Good,
    Leaving,
    Caution,
    Bad,
    Strong,
    Dim,
}

impl Look {
    pub(super) fn columns(&self) -> usize {
        self.width.unwrap_or(COLUMNS)
    }

    pub(super) fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let style = Style::new().force_styling(true);
        let style = match paint {
            Paint::Plain => return text.to_owned(),
            Paint::Good => style.green(),
            Paint::Leaving => style.cyan(),
            Paint::Caution => style.yellow(),
            Paint::Bad => style.red().bold(),
            Paint::Strong => style.bold(),
            Paint::Dim => style.dim(),
        };
        style.apply_to(text).to_string()
    }

    /// Joins the parts of a line that say different things.
    pub(super) fn join(&self, parts: &[String]) -> String {
        parts.join(if self.utf8 { " · " } else { ", " })
    }

    /// Cuts out the middle of what is wider than `width` columns.
    pub(super) fn fit(&self, text: &str, width: usize) -> String {
        if columns_of(text) <= width {
            return text.to_owned();
        }
        let mark = if self.utf8 { "…" } else { "..." };
        let room = width.saturating_sub(columns_of(mark));
        let head = take(text.chars(), room.div_ceil(2));
        let tail: String = take(text.chars().rev(), room / 2).chars().rev().collect();
        format!("{head}{mark}{tail}")
    }

    /// `today 18:20`, `yesterday 06:20`, `tomorrow 09:00`, `2026-11-02 12:20`.
    pub(super) fn when(&self, at: Timestamp) -> String {
        let local = at.to_zoned(self.zone.clone());
        let time = local.strftime("%H:%M");
        match self.days_since(at) {
            -1 => format!("tomorrow {time}"),
            0 => format!("today {time}"),
            1 => format!("yesterday {time}"),
            _ => format!("{} {time}", local.date()),
        }
    }

    /// `today`, `3 d`.
    pub(super) fn age(&self, at: Timestamp) -> String {
        match self.days_since(at) {
            days if days <= 0 => "today".to_owned(),
            days => format!("{days} d"),
        }
    }

    /// `now`, `in 20 min`, `in 5 h`, `in 2 d`.
    pub(super) fn ahead(&self, at: Timestamp) -> String {
        match at.duration_since(self.now).as_secs() {
            seconds if seconds <= 0 => "now".to_owned(),
            seconds if seconds < 3600 => format!("in {} min", (seconds + 59) / 60),
            seconds if seconds < 48 * 3600 => format!("in {} h", seconds / 3600),
            seconds => format!("in {} d", seconds / 86400),
        }
    }

    /// Midnights between `at` and now; negative for what is to come.
    fn days_since(&self, at: Timestamp) -> i32 {
        let day = |at: Timestamp| at.to_zoned(self.zone.clone()).date();
        (day(self.now) - day(at)).get_days()
    }
}

/// The columns that `text` takes on a terminal.
pub(super) fn columns_of(text: &str) -> usize {
    console::measure_text_width(text)
}

fn take(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut taken = String::new();
    let mut used = 0;
    for c in chars {
        used += columns_of(c.encode_utf8(&mut [0; 4]));
        if used > width {
            break;
        }
        taken.push(c);
    }
    taken
}

/// `187 MiB/s`; `None` where there was nothing to measure.
pub(super) fn rate(bytes: u64, taken: Duration) -> Option<String> {
    let millis = taken.as_millis();
    if bytes == 0 || millis == 0 {
        return None;
    }
    let rate = u128::from(bytes) * 1000 / millis;
    Some(format!("{}/s", size(u64::try_from(rate).unwrap_or(u64::MAX))))
}

/// `[###########.........]  57%`. More than the whole fills it.
pub(super) fn bar(part: u64, whole: u64) -> String {
    let share = |of: u64| {
        let whole = u128::from(whole.max(1));
        (u128::from(part) * u128::from(of) + whole / 2) / whole
    };
    let cells = share(20).min(20);
    let mut bar = String::from("[");
    for cell in 0..BAR {
        bar.push(if (cell as u128) < cells { '#' } else { '.' });
    }
    let _ = write!(bar, "] {:>3}%", share(100));
    bar
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A wide stream that is no terminal, at 20:00 on 2026-11-23, one hour east of UTC.
    pub(in super::super) fn look() -> Look {
        Look {
            color: false,
            utf8: true,
            width: None,
            now: "2026-11-23T19:00:00Z".parse().unwrap(),
            zone: TimeZone::fixed(jiff::tz::offset(1)),
        }
    }

    #[test]
    fn a_rate_needs_bytes_and_time() {
        assert_eq!(rate((187 * 23) << 20, Duration::from_secs(23)).as_deref(), Some("187 MiB/s"));
        assert_eq!(rate(0, Duration::from_secs(1)), None);
        assert_eq!(rate(1, Duration::ZERO), None);
    }

    #[test]
    fn days_change_at_the_readers_midnight() {
        let look = look();
        let table = [
            ("2026-11-23T17:20:00Z", "today 18:20", "today"),
            ("2026-11-22T23:00:00Z", "today 00:00", "today"),
            ("2026-11-22T22:59:00Z", "yesterday 23:59", "1 d"),
            ("2026-11-02T11:20:00Z", "2026-11-02 12:20", "21 d"),
        ];
        for (at, when, age) in table {
            let at = at.parse().unwrap();
            assert_eq!((look.when(at).as_str(), look.age(at).as_str()), (when, age));
        }
    }

    #[test]
    fn what_is_to_come_is_told_in_the_unit_that_fits() {
        let look = look();
        for (seconds, text) in
            [(-5, "now"), (0, "now"), (30, "in 1 min"), (1200, "in 20 min"), (18_000, "in 5 h"), (200_000, "in 2 d")]
        {
            let at = look.now + jiff::SignedDuration::from_secs(seconds);
            assert_eq!(look.ahead(at), text);
        }
    }

    #[test]
    fn a_bar_never_leaves_its_brackets() {
        assert_eq!(bar(0, 0), "[....................]   0%");
        assert_eq!(bar(57, 100), "[###########.........]  57%");
        assert_eq!(bar(300, 100), "[####################] 300%");
    }

    #[test]
    fn the_middle_goes_first() {
        let look = look();
        assert_eq!(look.fit("The Lord of the Rings", 11), "The L…Rings");
        assert_eq!(look.fit("short", 11), "short");
        let ascii = Look { utf8: false, ..look };
        assert_eq!(ascii.fit("The Lord of the Rings", 11), "The ...ings");
    }

    proptest! {
        #[test]
        fn fitted_text_fits(text in "\\PC{0,60}", width in 3usize..40) {
            prop_assert!(columns_of(&look().fit(&text, width)) <= width);
        }
    }
}
