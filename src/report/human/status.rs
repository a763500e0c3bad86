//! What is on the cache, why, and until when.
//!
//! What is wrong comes first. Files are folded by show, and within it by what keeps or releases them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::plan::server_line;
use super::progress::counts;
use super::table::{Align, Cell, Table};
use super::text::{Look, Paint, bar};
use super::titles::Episode;
use crate::history::LastRun;
use crate::plan::CopyState;
use crate::report::words::{count, duration, evict_words, or_path, reasons, size, size_of, visible};
use crate::report::{FileStatus, Status, TierStatus};
use crate::select::Reasons;

pub(super) fn render(status: &Status, look: &Look) -> String {
    let look = &Look { now: status.now, ..look.clone() };
    let mut text = health(status, look);
    for tier in &status.tiers {
        text.push_str(&tier_lines(tier, status));
    }
    if let Some(live) = &status.live {
        let _ = writeln!(text, "Plex    {}", server_line(live, look));
    }
    let _ = writeln!(
        text,
        "Last    {}",
        status.last_run.as_ref().map_or("no run yet".to_owned(), |l| last(l, status.running, look))
    );
    if status.health.is_empty() {
        text.push_str("Health  ok\n");
    }
    if !status.files.is_empty() {
        text.push('\n');
        text.push_str(&files(&status.files, look));
    }
    text
}

/// What is wrong; empty when nothing is.
pub(super) fn health(status: &Status, look: &Look) -> String {
    let head = look.paint(Paint::Bad, "Health");
    status.health.iter().flat_map(|line| [head.clone(), "  ".to_owned(), visible(line), "\n".to_owned()]).collect()
}

fn tier_lines(tier: &TierStatus, status: &Status) -> String {
    let root = visible(tier.cache_root.as_str());
    let (Some(total), Some(free)) = (tier.total, tier.free) else {
        return format!("SSD     {root:<20}  cannot be looked at\n");
    };
    let used = total.saturating_sub(free);
    let is_here = |file: &&FileStatus| file.cached.action.map == tier.map;
    let files = count(status.files.iter().filter(is_here).count() as u64, "file");
    let owned = match tier.limit {
        Some(limit) => format!("{}  {}", bar(tier.owned, limit), size_of(tier.owned, limit)),
        None => size(tier.owned),
    };
    format!(
        "SSD     {root:<20}  {}  {}\n        {:<20}  {owned} in {files}\n",
        bar(used, total),
        size_of(used, total),
        "plexcache owns",
    )
}

fn last(last: &LastRun, running: bool, look: &Look) -> String {
    let (result, what) = match &last.finished {
        None if running => ("under way", String::new()),
        None => ("cut short", format!("(plexcache history {})", last.run)),
        Some((end, run)) => {
            let counts =
                counts(&[(run.cached.files, "cached"), (run.evicted.files, "evicted"), (run.failed.files, "failed")]);
            let taken = end.duration_since(last.started).try_into().unwrap_or_default();
            (run.outcome.word(), format!("{counts}, {}", duration(taken)))
        }
    };
    format!("{}  {}  {result}  {what}", visible(&last.command), look.when(last.started))
}

fn files(files: &[FileStatus], look: &Look) -> String {
    let mut shows: BTreeMap<(String, Keeps), Vec<&FileStatus>> = BTreeMap::new();
    for file in files {
        let action = &file.cached.action;
        let title = or_path(&action.title, action.unit.as_str());
        let show = Episode::parse(title).map_or(title, |episode| episode.show);
        shows.entry((visible(show), keeps(file, look))).or_default().push(file);
    }
    let bytes =
        |files: &[&FileStatus]| files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.cached.action.size));
    let mut shows: Vec<_> = shows.into_iter().collect();
    shows.sort_by_key(|(_, files)| std::cmp::Reverse(bytes(files)));
    let mut table = Table::new(&[Align::Left, Align::Right, Align::Right, Align::Right, Align::Left], Some(0));
    table.row(["On SSD", "files", "size", "oldest", "why"].map(|head| Cell::painted(Paint::Strong, head)));
    for ((show, keeps), files) in shows {
        let oldest = files.iter().map(|file| file.cached.at).min().unwrap_or(look.now);
        let why = match keeps {
            Keeps::Wanted => {
                let all: Reasons = files.iter().flat_map(|file| &file.cached.action.reasons).cloned().collect();
                if all.is_empty() { "wanted".to_owned() } else { reasons(&all) }
            }
            Keeps::Because(why) => why,
        };
        let cells = [show, files.len().to_string(), size(bytes(&files)), look.age(oldest), why];
        table.row(cells.map(Cell::from));
    }
    table.render(look, 2)
}

/// What keeps a file where it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Keeps {
    Wanted,
    Because(String),
}

fn keeps(file: &FileStatus, look: &Look) -> Keeps {
    let because = |why: &str| Keeps::Because(why.to_owned());
    let held = file.held_until.filter(|until| *until > look.now);
    match (file.state, held, file.release) {
        (None, ..) => because("cannot be looked at"),
        (Some(CopyState::Gone), ..) => because("the copy is gone"),
        (Some(CopyState::Changed), ..) => because("changed since it was cached"),
        _ if file.pinned => because("pinned"),
        _ if file.wanted => Keeps::Wanted,
        (_, Some(until), _) => Keeps::Because(format!("held by an undo until {}", look.when(until))),
        (_, None, Some(release)) => {
            Keeps::Because(format!("{}, evict {}", evict_words(release.why), look.ahead(release.at)))
        }
        (_, None, None) => because("not known who wants it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::look;
    use super::*;
    use crate::history::Index;
    use crate::history::record::{Event, Record, RunOutcome, VERSION};
    use crate::report::samples;

    #[test]
    fn a_healthy_status_is_tiers_last_run_and_a_table_by_show() {
        let expected = "\
SSD     /mnt/cache/media      [############........]  59%  551.0 of 931.0 GiB
        plexcache owns        [##########..........]  48%  241.0 of 500.0 GiB in 4 files
SSD     /mnt/gone/music       cannot be looked at
Last    no run yet
Health  ok

  On SSD                 files      size  oldest  why
  Dune: Part Two (2024)      1  20.0 GiB   today  on deck: anna, ben
  Severance                  2   8.0 GiB     3 d  on deck: anna, ben
  Foundation                 1   3.0 GiB     8 d  watched, evict in 2 d
";
        assert_eq!(render(&samples::status(), &look()), expected);
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let mut status = samples::status();
        status.health = vec!["1 file failed in run 215\u{1b}[1m".to_owned()];
        status.files.clear();
        status.tiers.truncate(1);
        status.live = Some(crate::report::ServerLine { version: "1.41.3".to_owned(), users: 1, playing: None });
        let text = render(&status, &look());
        let expected = r"
Health  1 file failed in run 215\u{1b}[1m
SSD     /mnt/cache/media      [############........]  59%  551.0 of 931.0 GiB
        plexcache owns        [##########..........]  48%  241.0 of 500.0 GiB in 0 files
Plex    1.41.3 · 1 user · sessions unknown
Last    no run yet
";
        assert_eq!(text, expected.trim_start());
    }

    #[test]
    fn the_last_run_is_told_in_local_time() {
        let line_of = |events: &[(&str, Event)]| {
            let mut index = Index::default();
            for (t, event) in events {
                index.apply(&Record { v: VERSION, run: 214, t: samples::at(t), event: event.clone() });
            }
            last(index.last_run.as_ref().unwrap(), false, &look())
        };
        let start = ("2026-11-23T11:20:00Z", Event::RunStarted(samples::runs()[1].started.clone()));
        let finished = Event::RunFinished(samples::finished(RunOutcome::Partial, 6, 0, 1));
        let end = ("2026-11-23T11:22:14Z", finished);
        assert_eq!(line_of(std::slice::from_ref(&start)), "sync  today 12:20  cut short  (plexcache history 214)");
        assert_eq!(line_of(&[start, end]), "sync  today 12:20  partial  6 cached, 1 failed, 2m14s");
    }

    #[test]
    fn what_keeps_a_file_is_said_in_words() {
        let base = samples::status().files.remove(1);
        let kept = |file: FileStatus| keeps(&file, &look());
        let because = |why: &str| Keeps::Because(why.to_owned());
        let soon = Some(samples::at("2026-11-24T09:00:00Z"));
        assert_eq!(kept(FileStatus { state: None, ..base.clone() }), because("cannot be looked at"));
        assert_eq!(kept(FileStatus { state: Some(CopyState::Gone), ..base.clone() }), because("the copy is gone"));
        assert_eq!(kept(FileStatus { pinned: true, ..base.clone() }), because("pinned"));
        assert_eq!(kept(FileStatus { wanted: true, ..base.clone() }), Keeps::Wanted);
        let held = FileStatus { held_until: soon, ..base.clone() };
        assert_eq!(kept(held), because("held by an undo until tomorrow 10:00"));
        assert_eq!(kept(FileStatus { release: None, ..base }), because("not known who wants it"));
    }
}
