//! What a file is called in front of people: its title, which episode of which show that is, and what a
//! file beside the video is.
//!
//! Titles come from Plex and only look like `Severance S02E04`; whatever does not look so is a title by
//! itself. Nothing but the display rests on this.

use camino::Utf8Path;

use crate::plan::Action;
use crate::report::words::{count, or_path, visible};

const SUBTITLES: &[&str] = &["ass", "idx", "smi", "srt", "ssa", "sub", "sup", "ttml", "vtt"];

/// The episodes that a title names: `Show S02E04` or `Show S02E04-E05`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Episode<'a> {
    pub(super) show: &'a str,
    /// As the title has it: `S02`.
    pub(super) season: &'a str,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl<'a> Episode<'a> {
    pub(super) fn parse(title: &'a str) -> Option<Self> {
        let (show, code) = title.rsplit_once(' ')?;
        let (season, episodes) = code.split_once('E')?;
        let number = |digits: &str| {
            digits.bytes().all(|b| b.is_ascii_digit()).then_some(()).and_then(|()| digits.parse::<u32>().ok())
        };
        number(season.strip_prefix('S')?)?;
        let (first, last) = episodes.split_once("-E").unwrap_or((episodes, episodes));
        let (first, last) = (number(first)?, number(last)?);
        (!show.is_empty() && first <= last).then_some(Self { show, season, first, last })
    }
}

/// `Severance S02E04-E08`.
pub(super) fn range(show: &str, season: &str, first: u32, last: u32) -> String {
    let last = if first == last { String::new() } else { format!("-E{last:02}") };
    visible(&format!("{show} {season}E{first:02}{last}"))
}

/// Files of a unit that are not its first part, by what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Beside {
    parts: u64,
    subtitles: u64,
    others: u64,
}

impl Beside {
    /// Counts the file at `path` of the unit at `unit`.
    pub(super) fn add(&mut self, path: &str, unit: &str) {
        let extension = |path: &str| Utf8Path::new(path).extension().unwrap_or("").to_ascii_lowercase();
        let kind = extension(path);
        if SUBTITLES.contains(&kind.as_str()) {
            self.subtitles += 1;
        } else if kind == extension(unit) {
            self.parts += 1;
        } else {
            self.others += 1;
        }
    }

    pub(super) fn add_all(&mut self, more: Self) {
        self.parts += more.parts;
        self.subtitles += more.subtitles;
        self.others += more.others;
    }

    /// `2 subtitles + 1 file`; empty when there are none.
    pub(super) fn words(self) -> String {
        let kinds = [(self.parts, "part"), (self.subtitles, "subtitle"), (self.others, "file")];
        let words: Vec<String> =
            kinds.iter().filter(|(number, _)| *number > 0).map(|(number, what)| count(*number, what)).collect();
        words.join(" + ")
    }
}

/// The title of one file; what is not the video itself is told by the end of its name.
pub(super) fn of_file(action: &Action) -> String {
    let title = visible(or_path(&action.title, action.path.as_str()));
    if action.path == action.unit {
        return title;
    }
    let name = action.path.file_name();
    match name.strip_prefix(action.unit.stem()) {
        Some(end) if end.starts_with('.') => format!("{title} {}", visible(end)),
        _ => format!("{title} ({})", visible(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_of_episodes_are_taken_apart_and_others_are_not() {
        let table = [
            ("Severance S02E04", Some(("Severance", "S02", 4, 4))),
            ("9-1-1: Lone Star S01E01-E02", Some(("9-1-1: Lone Star", "S01", 1, 2))),
            ("Show S2024E113", Some(("Show", "S2024", 113, 113))),
            ("Dune: Part Two (2024)", None),
            ("S02E04", None),
            ("Show S02", None),
            ("Show SE04", None),
            ("Show S02E+4", None),
            ("Show S02E05-E04", None),
            ("Show S02E99999999999", None),
            ("", None),
        ];
        for (title, expected) in table {
            let found = Episode::parse(title).map(|e| (e.show, e.season, e.first, e.last));
            assert_eq!(found, expected, "{title}");
        }
        assert_eq!(range("Severance", "S02", 4, 8), "Severance S02E04-E08");
        assert_eq!(range("Severance", "S02", 4, 4), "Severance S02E04");
    }

    #[test]
    fn files_beside_a_video_are_counted_by_what_they_are() {
        let mut beside = Beside::default();
        for path in ["a.en.srt", "a.de.SRT", "a.pt2.mkv", "a.nfo"] {
            beside.add(path, "a.mkv");
        }
        assert_eq!(beside.words(), "1 part + 2 subtitles + 1 file");
        assert_eq!(Beside::default().words(), "");
    }
}
