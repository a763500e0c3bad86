//! What is on the cache, on the page: by unit, and by what becomes of it.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use jiff::Timestamp;

use super::{Page, Text};
use crate::plan::{CopyState, EvictWhy, Release};
use crate::report::FileStatus;
use crate::report::words::{evict_words, or_path, size};
use crate::select::{Reasons, Source};

impl Page<'_> {
    pub(super) fn files(&self, out: &mut String) -> fmt::Result {
        out.write_str("<table class=\"files\">\n<caption>On the cache, why, and until when</caption>\n")?;
        if self.status.files.is_empty() {
            return out.write_str("<tbody>\n<tr><td>Nothing.</td></tr>\n</tbody>\n</table>\n");
        }
        out.write_str(
            "<thead>\n<tr><th scope=\"col\">Title</th><th scope=\"col\">Why</th><th scope=\"col\" class=\"n\">Size</th>\
             <th scope=\"col\">Since</th><th scope=\"col\">Until</th></tr>\n</thead>\n",
        )?;
        let mut groups: BTreeMap<Group, Vec<Unit<'_>>> = BTreeMap::new();
        for unit in units(&self.status.files) {
            groups.entry(unit.fate.group()).or_default().push(unit);
        }
        for (group, mut units) in groups {
            units.sort_by(|a, b| (a.fate.leaves(), a.title, a.path).cmp(&(b.fate.leaves(), b.title, b.path)));
            let bytes = units.iter().fold(0, |sum: u64, unit| sum.saturating_add(unit.bytes));
            writeln!(
                out,
                "<tbody>\n<tr><th scope=\"rowgroup\" colspan=\"5\">{} <small>{}, {}</small></th></tr>",
                group.words(),
                units.len(),
                size(bytes)
            )?;
            for unit in &units {
                self.unit(out, unit)?;
            }
            out.write_str("</tbody>\n")?;
        }
        out.write_str("</table>\n")
    }

    /// A row, without the end tags that HTML does without: there may be many.
    fn unit(&self, out: &mut String, unit: &Unit<'_>) -> fmt::Result {
        write!(out, "<tr><th scope=\"row\">{}", Text(unit.title))?;
        if unit.files > 1 {
            write!(out, " <small>{} files</small>", unit.files)?;
        }
        write!(
            out,
            "</th><td>{}<td>{}<td><time>{}</time><td>",
            ReasonWords(unit.reasons),
            size(unit.bytes),
            unit.since.to_zoned(self.zone.clone()).date(),
        )?;
        match unit.fate {
            Fate::Gone => out.write_str("<b class=\"warn\">! the copy is gone</b>")?,
            Fate::Changed => out.write_str("<b class=\"warn\">! changed since it was cached</b>")?,
            Fate::Unseen => out.write_str("<b class=\"warn\">! cannot be looked at</b>")?,
            Fate::Pinned => out.write_str("pinned")?,
            Fate::Held(until) => write!(out, "held by an undo, ends {}", self.ahead(until))?,
            Fate::Leaves(at, why) => write!(out, "{}, {}", self.ahead(at), evict_words(why))?,
            // The heading of its group has said it.
            Fate::Wanted => {}
            Fate::Unknown => out.write_str("not known who wants it")?,
        }
        out.write_char('\n')
    }
}

/// A row: what is cached together, as people know it.
struct Unit<'a> {
    title: &'a str,
    path: &'a str,
    reasons: &'a Reasons,
    files: u64,
    bytes: u64,
    since: Timestamp,
    fate: Fate,
}

/// The files by unit. What a file of it suffers from, or is kept by, goes for the unit.
fn units(files: &[FileStatus]) -> Vec<Unit<'_>> {
    let mut units: BTreeMap<(&str, &str), Unit<'_>> = BTreeMap::new();
    for file in files {
        let action = &file.cached.action;
        let path = action.unit.as_str();
        let title = or_path(&action.title, path);
        let fate = Fate::of(file);
        let unit = units.entry((&action.map, path)).or_insert_with(|| Unit {
            title,
            path,
            reasons: &action.reasons,
            files: 0,
            bytes: 0,
            since: file.cached.at,
            fate,
        });
        if action.path == action.unit {
            (unit.title, unit.reasons) = (title, &action.reasons);
        }
        unit.files += 1;
        unit.bytes = unit.bytes.saturating_add(action.size);
        unit.since = unit.since.min(file.cached.at);
        unit.fate = unit.fate.min(fate);
    }
    units.into_values().collect()
}

/// What becomes of a unit; the first that holds for one of its files counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Gone,
    Changed,
    Unseen,
    Pinned,
    Held(Timestamp),
    Leaves(Timestamp, EvictWhy),
    Wanted,
    Unknown,
}

impl Fate {
    fn of(file: &FileStatus) -> Self {
        match (file.state, file.release, file.held_until) {
            (Some(CopyState::Gone), ..) => Self::Gone,
            (Some(CopyState::Changed), ..) => Self::Changed,
            (None, ..) => Self::Unseen,
            _ if file.pinned => Self::Pinned,
            (.., Some(until)) => Self::Held(until),
            (_, Some(Release { at, why }), None) => Self::Leaves(at, why),
            (_, None, None) if file.wanted => Self::Wanted,
            (_, None, None) => Self::Unknown,
        }
    }

    fn group(self) -> Group {
        match self {
            Self::Gone | Self::Changed | Self::Unseen => Group::Trouble,
            Self::Leaves(..) => Group::Leaves,
            Self::Pinned | Self::Held(_) | Self::Unknown => Group::Stays,
            Self::Wanted => Group::Wanted,
        }
    }

    fn leaves(self) -> Option<Timestamp> {
        match self {
            Self::Leaves(at, _) => Some(at),
            Self::Gone | Self::Changed | Self::Unseen | Self::Pinned | Self::Held(_) | Self::Wanted | Self::Unknown => {
                None
            }
        }
    }
}

/// The parts of the table, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Trouble,
    Leaves,
    Stays,
    Wanted,
}

impl Group {
    fn words(self) -> &'static str {
        match self {
            Self::Trouble => "Needs a look",
            Self::Leaves => "Leaves",
            Self::Stays => "Stays",
            Self::Wanted => "Stays while wanted",
        }
    }
}

/// `on deck: anna, ben; watchlist: carl`.
struct ReasonWords<'a>(&'a Reasons);

impl Display for ReasonWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last: Option<(Source, bool)> = None;
        // The set is in the order of sources, and a source without a user comes before those with one.
        for reason in self.0 {
            let (source, what) = (reason.source, reason.of_what());
            let (is_same, has_what) = last.map_or((false, false), |(before, what)| (before == source, what));
            if !is_same {
                write!(f, "{}{}", if last.is_some() { "; " } else { "" }, source.words())?;
            }
            if let Some(what) = what {
                write!(f, "{}{}", if is_same && has_what { ", " } else { ": " }, Text(what))?;
            }
            last = Some((source, what.is_some()));
        }
        Ok(())
    }
}
