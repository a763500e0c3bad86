//! The plan, as a preview of a run and as the result of a dry run.
//!
//! One row a unit, its sidecars counted in; consecutive episodes of one season that are cached or
//! evicted for the same reason on the same disk share a row, which stands where the first of them
//! stands. Folding hides no file: counts and sizes are those of all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use camino::Utf8Path;

use super::table::{Align, Cell, Table};
use super::text::{Look, Paint, bar};
use super::titles::{Beside, Episode, range};
use crate::config::Placement;
use crate::plan::{Action, EvictWhy, Kind, Plan, Skip};
use crate::report::words::{count, evict_words, or_path, reasons, size, size_of, visible, why_words};
use crate::report::{PlanContext, PoolLine, ServerLine};
use crate::select::{Reason, Source};

/// Skipped files are no news for most readers; more than so many take `-v`.
const SKIPS_SHOWN: usize = 20;

/// The text of a plan. `verbose`: every unit and every skipped file on a row of its own.
pub(super) fn render(plan: &Plan, dry_run: bool, context: &PlanContext, verbose: bool, look: &Look) -> String {
    let mut text = String::new();
    if let Some(server) = &context.server {
        let _ = writeln!(text, "Plex  {}", server_line(server, look));
    }
    if plan.actions.is_empty() {
        text.push_str(&nothing_to_do(plan, context));
        text.push_str(&rows(plan, context, verbose, look));
        return text;
    }
    text.push_str(&headline(plan, context, look));
    text.push('\n');
    text.push_str(&rows(plan, context, verbose, look));
    if !context.pools.is_empty() {
        text.push('\n');
        context.pools.iter().for_each(|pool| text.push_str(&pool_lines(pool)));
    }
    text.push('\n');
    if dry_run {
        let _ = writeln!(text, "Dry run: nothing changed. To do it: {}", how_to_do_it(context));
    }
    text
}

/// `1.41.3 · 3 users · 1 playing`.
pub(super) fn server_line(server: &ServerLine, look: &Look) -> String {
    let playing = server.playing.map_or("sessions unknown".to_owned(), |playing| format!("{playing} playing"));
    look.join(&[visible(&server.version), count(server.users as u64, "user"), playing])
}

fn headline(plan: &Plan, context: &PlanContext, look: &Look) -> String {
    let part = |kind: Kind, verb: &str, what: &str| {
        let sizes: Vec<u64> = plan.actions.iter().filter(|action| action.kind == kind).map(|a| a.size).collect();
        let total = sizes.iter().fold(0_u64, |total, size| total.saturating_add(*size));
        let files = if what.is_empty() { sizes.len().to_string() } else { count(sizes.len() as u64, what) };
        (!sizes.is_empty()).then(|| format!("{verb} {files} ({})", size(total)))
    };
    let cache = part(Kind::Cache, if context.command == "init" { "take over" } else { "cache" }, "file");
    let evict = part(Kind::Evict, "evict", if cache.is_some() { "" } else { "file" });
    let mut parts: Vec<String> = cache.into_iter().chain(evict).collect();
    if plan.kept_files > 0 {
        parts.push(format!("keep {}", plan.kept_files));
    }
    if !plan.skipped.is_empty() {
        parts.push(format!("skip {}", plan.skipped.len()));
    }
    let head = if context.undo_of.is_empty() { "Plan".to_owned() } else { capital(&undo_of(&context.undo_of)) };
    format!("{}  {}\n", look.paint(Paint::Strong, &head), look.join(&parts))
}

fn nothing_to_do(plan: &Plan, context: &PlanContext) -> String {
    if context.command == "undo" {
        return "Nothing to undo.\n".to_owned();
    }
    if plan.kept_files == 0 {
        return "Nothing to do.\n".to_owned();
    }
    let owned = context.pools.iter().fold(0_u64, |owned, pool| owned.saturating_add(pool.owned));
    let owned = if context.pools.is_empty() { String::new() } else { format!(" ({})", size(owned)) };
    let are = if plan.kept_files == 1 { "is" } else { "are" };
    let wanted = if context.command == "sync" { " and wanted" } else { "" };
    format!("Nothing to do: {}{owned} {are} on the cache{wanted}.\n", count(plan.kept_files, "file"))
}

/// `undo of run 214`, `undo of runs 210, 214`.
fn undo_of(runs: &[u64]) -> String {
    let numbers: Vec<String> = runs.iter().map(u64::to_string).collect();
    format!("undo of {} {}", if runs.len() == 1 { "run" } else { "runs" }, numbers.join(", "))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn how_to_do_it(context: &PlanContext) -> String {
    match (context.command, context.undo_of.as_slice()) {
        ("sync", _) => "plexcache sync".to_owned(),
        ("undo", [run]) => format!("plexcache undo {run}"),
        // Which files an eviction was asked for is not known here.
        _ => "the same command without --dry-run".to_owned(),
    }
}

/// What is cached or evicted on one row.
struct Row<'a> {
    kind: Kind,
    title: &'a str,
    /// Set as long as more episodes may join.
    episodes: Option<Episode<'a>>,
    /// The first part itself is among the files of the row.
    has_video: bool,
    beside: Beside,
    size: u64,
    reason: String,
    place: String,
}

impl Row<'_> {
    fn title(&self) -> String {
        let title = match &self.episodes {
            Some(Episode { show, season, first, last }) => range(show, season, *first, *last),
            None => visible(self.title),
        };
        match self.beside.words() {
            words if words.is_empty() => title,
            words if self.has_video => format!("{title} + {words}"),
            words => format!("{title}: {words}"),
        }
    }

    /// Whether the unit of `other` is the next episode of this row.
    fn is_followed_by(&self, other: &Self) -> bool {
        let (Some(own), Some(next)) = (&self.episodes, &other.episodes) else { return false };
        self.has_video
            && other.has_video
            && (own.show, own.season) == (next.show, next.season)
            && own.last.checked_add(1) == Some(next.first)
            && (self.kind, &self.reason, &self.place) == (other.kind, &other.reason, &other.place)
    }
}

fn rows(plan: &Plan, context: &PlanContext, verbose: bool, look: &Look) -> String {
    let rows = if verbose { units(&plan.actions, context) } else { joined(units(&plan.actions, context)) };
    let mut table = Table::new(&[Align::Left, Align::Left, Align::Right, Align::Left, Align::Left], Some(1));
    for row in &rows {
        let verb = match row.kind {
            Kind::Cache if context.command == "init" => Cell::painted(Paint::Good, "= take over"),
            Kind::Cache => Cell::painted(Paint::Good, "+ cache"),
            Kind::Evict => Cell::painted(Paint::Leaving, "- evict"),
        };
        let place = Cell::painted(Paint::Dim, row.place.as_str());
        table.row([verb, row.title().into(), size(row.size).into(), row.reason.as_str().into(), place]);
    }
    let skips = skips(&plan.skipped);
    let shown = if verbose { skips.len() } else { skips.len().min(SKIPS_SHOWN) };
    for (first, bytes, beside) in &skips[..shown] {
        let title = visible(or_path(&first.title, &first.path));
        let beside = beside.words();
        let title = if beside.is_empty() { title } else { format!("{title} + {beside}") };
        let bytes = if *bytes == 0 { String::new() } else { size(*bytes) };
        let detail = visible(&first.detail);
        let separator = if detail.is_empty() { "" } else { ": " };
        let why = format!("{}{separator}{detail}", why_words(first.why));
        table.row([Cell::painted(Paint::Caution, "! skip"), title.into(), bytes.into(), why.into()]);
    }
    let mut text = table.render(look, 2);
    if shown < skips.len() {
        let _ = writeln!(text, "  ! {} more skipped; -v shows all", skips.len() - shown);
    }
    text
}

/// Each unit on the first row that it goes on, and on one of its own where there is none.
fn joined<'a>(units: Vec<Row<'a>>) -> Vec<Row<'a>> {
    let mut rows: Vec<Row> = Vec::new();
    // Rows by the episode that would go on with them: there may be very many.
    let mut awaited: BTreeMap<(&'a str, &'a str, u32), BTreeSet<usize>> = BTreeMap::new();
    for unit in units {
        let episodes = unit.episodes.as_ref().map(|own| ((own.show, own.season, own.first), own.last));
        let followed = episodes.and_then(|(first, _)| {
            let rows_there = awaited.get_mut(&first)?;
            let at = rows_there.iter().copied().find(|&at| rows[at].is_followed_by(&unit))?;
            rows_there.remove(&at);
            Some(at)
        });
        let at = followed.unwrap_or(rows.len());
        if let Some(row) = rows.get_mut(at) {
            row.size = row.size.saturating_add(unit.size);
            row.beside.add_all(unit.beside);
            if let (Some(own), Some((_, last))) = (&mut row.episodes, episodes) {
                own.last = last;
            }
        } else {
            rows.push(unit);
        }
        if let Some(((show, season, _), last)) = episodes
            && let Some(next) = last.checked_add(1)
        {
            awaited.entry((show, season, next)).or_default().insert(at);
        }
    }
    rows
}

/// The actions by unit, in the order of the plan.
fn units<'a>(actions: &'a [Action], context: &PlanContext) -> Vec<Row<'a>> {
    let labels = disk_labels(actions);
    let mut rows: Vec<Row> = Vec::new();
    let mut known = BTreeMap::new();
    for action in actions {
        let at = *known.entry((action.kind, &action.map, &action.unit)).or_insert(rows.len());
        if at == rows.len() {
            let title = or_path(&action.title, action.unit.as_str());
            rows.push(Row {
                kind: action.kind,
                title,
                episodes: Episode::parse(title),
                has_video: false,
                beside: Beside::default(),
                size: 0,
                reason: reason(action, context),
                place: place(action, &labels),
            });
        }
        let row = &mut rows[at];
        row.size = row.size.saturating_add(action.size);
        if action.path == action.unit {
            row.has_video = true;
        } else {
            row.beside.add(action.path.as_str(), action.unit.as_str());
        }
    }
    rows
}

/// Skipped files of one unit that are skipped for the same reason: the first, the bytes of all, the rest.
fn skips(skipped: &[Skip]) -> Vec<(&Skip, u64, Beside)> {
    let mut rows: Vec<(&Skip, u64, Beside)> = Vec::new();
    let mut known = BTreeMap::new();
    for skip in skipped {
        let key = (skip.kind, &skip.map, &skip.unit, &skip.title, skip.why, &skip.detail);
        let at = *known.entry(key).or_insert(rows.len());
        match rows.get_mut(at) {
            None => rows.push((skip, skip.size, Beside::default())),
            Some((_, bytes, beside)) => {
                *bytes = bytes.saturating_add(skip.size);
                beside.add(&skip.path, &skip.unit);
            }
        }
    }
    rows
}

fn reason(action: &Action, context: &PlanContext) -> String {
    match (action.kind, action.evict_why) {
        _ if !context.undo_of.is_empty() => undo_of(&context.undo_of),
        (Kind::Cache, _) => reasons(&action.reasons),
        (Kind::Evict, None) => String::new(),
        (Kind::Evict, Some(EvictWhy::Unwanted)) => {
            let is_watchlist = |reason: &Reason| reason.source == Source::Watchlist;
            let was_listed = !action.reasons.is_empty() && action.reasons.iter().all(is_watchlist);
            if was_listed { "left the watchlist" } else { "left the lists" }.to_owned()
        }
        (Kind::Evict, Some(why)) => evict_words(why).to_owned(),
    }
}

fn place(action: &Action, labels: &HashMap<&Utf8Path, String>) -> String {
    let label = labels.get(action.array_root.as_path()).map_or("", String::as_str);
    match (action.kind, action.placement) {
        (Kind::Cache, _) => label.to_owned(),
        (Kind::Evict, Placement::Move) => format!("back to {label}"),
        (Kind::Evict, _) => format!("original on {label}"),
    }
}

/// Short names of the array's roots: what `/mnt/disk1/media` has and its cache `/mnt/cache/media` has
/// not, `disk1`, with as many components before it as it takes to tell different disks apart.
fn disk_labels(actions: &[Action]) -> HashMap<&Utf8Path, String> {
    let mut disks: HashMap<&Utf8Path, Vec<&str>> = HashMap::new();
    for action in actions {
        let mut disk: Vec<&str> = components(&action.array_root);
        let cache = components(&action.cache_root);
        let shared = disk.iter().rev().zip(cache.iter().rev()).take_while(|(array, cache)| array == cache).count();
        disk.truncate(disk.len().saturating_sub(shared).max(1));
        disks.entry(&action.array_root).or_insert(disk);
    }
    let different: BTreeSet<&Vec<&str>> = disks.values().collect();
    let longest = different.iter().map(|disk| disk.len()).max().unwrap_or(0);
    let tail = |disk: &[&str], depth: usize| disk[disk.len().saturating_sub(depth)..].join("/");
    let depth = (1..longest)
        .find(|&depth| different.iter().map(|disk| tail(disk, depth)).collect::<BTreeSet<_>>().len() == different.len())
        .unwrap_or(longest);
    disks.into_iter().map(|(root, disk)| (root, visible(&tail(&disk, depth)))).collect()
}

fn components(path: &Utf8Path) -> Vec<&str> {
    path.as_str().split('/').filter(|component| !component.is_empty()).collect()
}

fn pool_lines(pool: &PoolLine) -> String {
    let used = pool.total.saturating_sub(pool.free);
    let after = used.saturating_sub(pool.owned).saturating_add(pool.owned_after);
    let root = visible(pool.cache_root.as_str());
    format!(
        "SSD   now    {}  {:>9}   of {} on {root}\n      after  {}  {:>9}   plexcache {}\n",
        bar(used, pool.total),
        size(used),
        size(pool.total),
        bar(after, pool.total),
        size(after),
        size_of(pool.owned_after, pool.limit),
    )
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::look;
    use super::*;
    use crate::paths::MediaPath;
    use crate::report::samples::{self, GIB, action, context, plan};

    fn text(plan: &Plan, context: &PlanContext) -> String {
        render(plan, false, context, false, &look())
    }

    const PREVIEW: &str = r"
Plex  1.41.3 · 3 users · 1 playing
Plan  cache 7 files (36.0 GiB) · evict 3 (14.0 GiB) · keep 37 · skip 3

  - evict  Foundation S01E01-E02                 6.0 GiB  watched             original on disk2
  - evict  The Martian (2015)                    8.0 GiB  left the watchlist  original on disk4
  + cache  Severance S02E04-E06                 12.0 GiB  on deck: anna, ben  disk3
  + cache  Dune: Part Two (2024) + 2 subtitles  20.0 GiB  watchlist: anna     disk1
  + cache  Severance S02E08                      4.0 GiB  on deck: anna, ben  disk3
  ! skip   Oppenheimer (2023) + 1 subtitle      61.0 GiB  no room: short by 16.6 GiB
  ! skip   C:\Films\x.mkv                                 not below any map

SSD   now    [###########.........]  57%  531.0 GiB   of 931.0 GiB on /mnt/cache/media
      after  [############........]  60%  555.0 GiB   plexcache 241.0 of 500.0 GiB

";

    fn preview() -> &'static str {
        PREVIEW.trim_start_matches('\n')
    }

    #[test]
    fn a_plan_is_folded_and_aligned() {
        assert_eq!(text(&plan(), &context("sync")), preview());
    }

    #[test]
    fn a_dry_run_is_the_same_preview_and_how_to_do_it() {
        let footer = |context: &PlanContext| {
            let text = render(&plan(), true, context, false, &look());
            text.lines().last().unwrap().to_owned()
        };
        let mut context = context("sync");
        let whole = render(&plan(), true, &context, false, &look());
        assert_eq!(whole, format!("{}Dry run: nothing changed. To do it: plexcache sync\n", preview()));
        context.command = "evict";
        assert_eq!(footer(&context), "Dry run: nothing changed. To do it: the same command without --dry-run");
        (context.command, context.undo_of) = ("undo", vec![214, 213]);
        assert_eq!(footer(&context), "Dry run: nothing changed. To do it: the same command without --dry-run");
    }

    #[test]
    fn an_undo_says_what_it_takes_back_and_how_to_do_it() {
        let mut plan = plan();
        plan.actions.truncate(1);
        plan.skipped.clear();
        plan.kept_files = 0;
        let context = PlanContext { command: "undo", undo_of: vec![214], ..PlanContext::default() };
        let expected = "\
Undo of run 214  evict 1 file (3.0 GiB)

  - evict  Foundation S01E01  3.0 GiB  undo of run 214  original on disk2

Dry run: nothing changed. To do it: plexcache undo 214
";
        assert_eq!(render(&plan, true, &context, false, &look()), expected);
    }

    #[test]
    fn seasons_reasons_and_disks_are_never_folded_into_one() {
        let episode = |title: &str, disk| action(Kind::Cache, title, &format!("tv/{title}.mkv"), disk, GIB);
        let mut next = episode("Show S01E03", "disk1");
        next.reasons = samples::why(Source::NextEpisode, &["anna"]);
        let double = [episode("Show S01E02-E03", "disk1"), episode("Show S01E04", "disk1")];
        let mut of_other = samples::beside(&episode("Other (2001)", "disk1"), "tv/Other.srt", 1024);
        of_other.unit = MediaPath::parse("tv/Other (2001).mkv").unwrap();
        let plan = Plan {
            actions: [
                episode("Show S01E01", "disk1"),
                episode("Show S02E02", "disk1"),
                episode("Show S01E02", "disk2"),
            ]
            .into_iter()
            .chain([next])
            .chain(double)
            .chain([of_other])
            .collect(),
            ..Plan::default()
        };
        let context = PlanContext { command: "sync", ..PlanContext::default() };
        let expected = "\
Plan  cache 7 files (6.0 GiB)

  + cache  Show S01E01-E04           3.0 GiB  on deck: anna, ben  disk1
  + cache  Show S02E02               1.0 GiB  on deck: anna, ben  disk1
  + cache  Show S01E02               1.0 GiB  on deck: anna, ben  disk2
  + cache  Show S01E03               1.0 GiB  next episode: anna  disk1
  + cache  Other (2001): 1 subtitle    1 KiB  on deck: anna, ben  disk1

";
        assert_eq!(text(&plan, &context), expected);
        let verbose = render(&plan, false, &context, true, &look());
        assert_eq!(verbose.lines().count(), 10);
    }

    #[test]
    fn many_skips_are_told_by_number_until_asked_for() {
        let skipped =
            (0..25).map(|n| samples::skip("", &format!("{n}.mkv"), 0, crate::plan::Why::TooYoung, "")).collect();
        let plan = Plan { skipped, ..Plan::default() };
        let context = PlanContext { command: "sync", ..PlanContext::default() };
        let short = text(&plan, &context);
        assert_eq!(short.lines().count(), 22);
        assert_eq!(short.lines().last(), Some("  ! 5 more skipped; -v shows all"));
        let long = render(&plan, false, &context, true, &look());
        assert_eq!(long.lines().count(), 26);
    }

    #[test]
    fn a_locale_without_utf8_gets_ascii() {
        let text = render(&plan(), false, &context("sync"), false, &Look { utf8: false, ..look() });
        assert!(text.is_ascii(), "{text}");
        assert!(text.starts_with("Plex  1.41.3, 3 users, 1 playing\n"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_cuts_titles_only() {
        let text = render(&plan(), false, &context("sync"), false, &Look { width: Some(80), ..look() });
        let row = "  + cache  Dune: Part…subtitles  20.0 GiB  watchlist: anna     disk1";
        assert!(text.lines().any(|line| line == row), "{text}");
    }

    #[test]
    fn disks_are_named_by_what_tells_them_apart() {
        let labels = |roots: &[(&str, &str)]| {
            let film = samples::plan().actions.swap_remove(3);
            let of = |(array, cache): &(&str, &str)| Action {
                array_root: (*array).into(),
                cache_root: (*cache).into(),
                ..film.clone()
            };
            let actions: Vec<Action> = roots.iter().map(of).collect();
            let labels = disk_labels(&actions);
            roots.iter().map(|(array, _)| labels[Utf8Path::new(*array)].clone()).collect::<Vec<_>>()
        };
        let cases: [(&[_], &[&str]); 4] = [
            (&[("/mnt/disk1/media", "/mnt/cache/media")], &["disk1"]),
            (&[("/mnt/disk1/tv", "/mnt/cache/tv"), ("/mnt/disk1/films", "/mnt/cache/films")], &["disk1", "disk1"]),
            (&[("/srv/a/data", "/ssd"), ("/srv/b/data", "/ssd")], &["a/data", "b/data"]),
            (&[("/media", "/ssd/media")], &["media"]),
        ];
        for (roots, expected) in cases {
            assert_eq!(labels(roots), expected);
        }
    }
}
