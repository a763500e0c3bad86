//! The page: what is on the cache, why, and until when, for a browser.
//!
//! Pure, but for the time zone of the machine. One file that needs nothing else: no script, no font, no
//! image from elsewhere, and a policy that forbids them. The page may be opened on the origin of a
//! server's own administration, where a title with markup in it would act with the rights of whoever
//! looks: everything foreign goes through [`Text`].

mod files;
mod runs;

use std::fmt::{self, Display, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::nagios::level;
use super::{Level, Status, TierStatus};
use crate::history::record::Count;
use crate::history::{LastRun, Run};
use crate::report::words::{age, bytes_of, count, duration, size, visible};
use runs::outcome;

const STYLE: &str = include_str!("style.css");

/// What the page may load: nothing. Its style is its own.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The page for `status` and the last `runs`, oldest first. Times are those of the machine's zone.
pub fn html(status: &Status, runs: &[Run]) -> String {
    render(status, runs, TimeZone::system())
}

fn render(status: &Status, runs: &[Run], zone: TimeZone) -> String {
    let mut out = String::new();
    Page { status, runs, zone }.write(&mut out).expect("a String takes everything");
    out
}

struct Page<'a> {
    status: &'a Status,
    runs: &'a [Run],
    zone: TimeZone,
}

impl Page<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        let (word, class) = match level(self.status) {
            Level::Ok => ("✓ All is well", "ok"),
            Level::Warning => ("! Needs a look", "warning"),
            Level::Critical => ("✗ Needs help", "critical"),
        };
        let files = count(self.status.files.len() as u64, "file");
        let bytes = size(bytes_of(&self.status.files));
        write!(
            out,
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>{word} · plexcache</title>
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>plexcache</h1>
<p>{files} on the cache, {bytes}, as of {}</p>
</header>
<main>
<section class="health {class}">
<h2>{word}</h2>
"#,
            self.time(self.status.now, "%a %-d %b %Y, %H:%M %Z")
        )?;
        if !self.status.health.is_empty() {
            out.write_str("<ul>\n")?;
            for problem in &self.status.health {
                writeln!(out, "<li>{}</li>", Text(problem))?;
            }
            out.write_str("</ul>\n")?;
        }
        self.last_run(out)?;
        out.write_str("</section>\n<div class=\"two\">\n")?;
        self.tiers(out)?;
        self.chart(out)?;
        out.write_str("</div>\n")?;
        self.files(out)?;
        self.run_table(out)?;
        write!(
            out,
            "</main>\n<footer>\n<p>Written by plexcache {} at {}. It shows who watches what: keep it in the house.</p>\n\
             <p>More: <code>plexcache status --why PATH</code> explains a file, <code>plexcache history RUN</code> \
             a run, <code>plexcache undo RUN</code> takes one back.</p>\n</footer>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION"),
            self.time(self.status.now, "%Y-%m-%d %H:%M:%S %Z"),
        )
    }

    fn last_run(&self, out: &mut String) -> fmt::Result {
        match &self.status.last_run {
            None => writeln!(out, "<p>There has been no run yet.</p>")?,
            Some(LastRun { run, command, started, finished: None, .. }) => {
                let age = age(self.status.now, *started);
                let at = self.time(*started, "%Y-%m-%d %H:%M");
                let state = if self.status.running { "is under way" } else { "was cut short" };
                writeln!(out, "<p>Last: {}, run {run}, begun {age} ({at}), {state}.</p>", Text(command))?;
            }
            Some(LastRun { run, command, started, finished: Some((ended, what)), .. }) => {
                let counts: Vec<String> = [("cached", what.cached), ("evicted", what.evicted), ("failed", what.failed)]
                    .into_iter()
                    .filter(|(_, Count { files, .. })| *files > 0)
                    .map(|(word, Count { files, bytes })| {
                        format!("{word} {} ({}), ", count(files, "file"), size(bytes))
                    })
                    .collect();
                writeln!(
                    out,
                    "<p>Last: {}, run {run}, {} ({}): {}, {}took {}.</p>",
                    Text(command),
                    age(self.status.now, *ended),
                    self.time(*ended, "%Y-%m-%d %H:%M"),
                    outcome(Some(what.outcome)),
                    counts.concat(),
                    duration(ended.duration_since(*started).try_into().unwrap_or_default()),
                )?;
            }
        }
        if let Some(server) = &self.status.live {
            let playing = server.playing.map_or("sessions unknown".to_owned(), |number| format!("{number} playing"));
            let users = count(server.users as u64, "user");
            writeln!(out, "<p>Plex {} answers: {users}, {playing}.</p>", Text(&server.version))?;
        }
        Ok(())
    }

    fn tiers(&self, out: &mut String) -> fmt::Result {
        out.write_str("<section>\n<h2>Cache</h2>\n")?;
        for TierStatus { map, cache_root, total, free, owned, limit } in &self.status.tiers {
            writeln!(
                out,
                "<div class=\"tier\">\n<p><code>{}</code> <small>for {}</small></p>",
                Text(cache_root.as_str()),
                Text(map)
            )?;
            match limit {
                Some(limit) => meter(out, "plexcache, of its limit", "owned", *owned, *limit)?,
                None => writeln!(out, "<p>plexcache: {}</p>", size(*owned))?,
            }
            match (total, free) {
                (Some(total), Some(free)) => {
                    meter(out, "All files, of the disk", "used", total.saturating_sub(*free), *total)?;
                }
                _ => writeln!(out, "<p class=\"bad\">✗ cannot be looked at</p>")?,
            }
            out.write_str("</div>\n")?;
        }
        out.write_str("</section>\n")
    }

    fn time(&self, at: Timestamp, format: &str) -> String {
        let shown = at.to_zoned(self.zone.clone());
        format!("<time datetime=\"{}\">{}</time>", at.strftime("%Y-%m-%dT%H:%MZ"), shown.strftime(format))
    }

    /// `now`, `in 5 h`, `in 2 d`: as of when the page was written.
    fn ahead(&self, at: Timestamp) -> String {
        let words = match at.duration_since(self.status.now).as_secs() {
            seconds if seconds <= 0 => "next run".to_owned(),
            seconds if seconds < 3600 => format!("in {} min", (seconds + 59) / 60),
            seconds if seconds < 48 * 3600 => format!("in {} h", seconds / 3600),
            seconds => format!("in {} d", seconds / 86400),
        };
        format!("<time datetime=\"{}\">{words}</time>", at.strftime("%Y-%m-%dT%H:%MZ"))
    }
}

fn meter(out: &mut String, label: &str, class: &str, part: u64, whole: u64) -> fmt::Result {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    writeln!(
        out,
        "<label><span>{label}</span> <span class=\"n\">{} of {} · {percent} %</span> \
         <meter class=\"{class}\" min=\"0\" max=\"{}\" value=\"{part}\">{percent} %</meter></label>",
        size(part),
        size(whole),
        whole.max(1),
    )
}

/// Foreign text in markup, between tags or within a quoted attribute.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in visible(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(in crate::report) mod tests {
    use std::sync::Arc;

    use camino::Utf8PathBuf;
    use jiff::tz;

    use super::*;
    use crate::config::Placement;
    use crate::history::RunAction;
    use crate::history::record::{Ended, Outcome, RunFinished, RunOutcome, RunStarted};
    use crate::paths::MediaPath;
    use crate::plan::{Action, Cached, CopyState, EvictWhy, Kind, Release};
    use crate::report::FileStatus;
    use crate::select::{Reason, Source};

    const GIB: u64 = 1 << 30;
    const HOSTILE: &str = "</td><script>alert('x')</script>\" onload=\"&amp;\u{202e}\u{1b}[2J\n";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn file(title: &str, path: &str, size: u64, reasons: &[(Source, Option<&str>)]) -> FileStatus {
        let path = MediaPath::parse(path).unwrap();
        let action = Action {
            kind: Kind::Cache,
            map: "/data/media".into(),
            unit: path.clone(),
            path,
            title: title.into(),
            rating_key: None,
            media_id: None,
            updated_at: None,
            reasons: reasons
                .iter()
                .map(|(source, user)| Reason { user: user.map(Into::into), ..Reason::of(*source) })
                .collect(),
            evict_why: None,
            placement: Placement::Copy,
            array_root: "/mnt/disk1/media".into(),
            cache_root: "/mnt/cache/media".into(),
            size,
            array: None,
            copy: None,
            checksum: None,
            left_out: false,
        };
        FileStatus {
            cached: Arc::new(Cached { action, run: 214, at: at("2026-11-20T07:20:00Z") }),
            state: Some(CopyState::Unchanged),
            release: None,
            wanted: true,
            pinned: false,
            held_until: None,
        }
    }

    pub(in crate::report) fn last_run(outcome: Option<RunOutcome>) -> LastRun {
        let finished = outcome.map(|outcome| (at("2026-11-23T17:22:14Z"), finished(outcome, 6)));
        serde_json::from_value(serde_json::json!({
            "run": 215, "command": "sync", "started": "2026-11-23T17:20:00Z", "finished": finished,
        }))
        .unwrap()
    }

    fn finished(outcome: RunOutcome, cached: u64) -> RunFinished {
        let count = |files, bytes| Count { files, bytes };
        let failed = u64::from(outcome == RunOutcome::Partial);
        RunFinished {
            outcome,
            cached: count(cached, cached * 5 * GIB),
            evicted: count(4, 18 * GIB),
            failed: count(failed, failed * 4 * GIB),
            skipped: count(0, 0),
            not_started: 0,
            error: None,
        }
    }

    /// Five files of four units on one map, and a map whose cache root is gone.
    pub(in crate::report) fn status() -> Status {
        let on_deck = [(Source::OnDeck, Some("ben")), (Source::OnDeck, Some("anna")), (Source::Pin, None)];
        let mut files = vec![
            file("Severance S02E04", "tv/Severance/S02E04.mkv", 4 * GIB + GIB / 3, &on_deck),
            file("Dune: Part Two (2024)", "movies/Dune 2/Dune 2.mkv", 41 * GIB, &[(Source::Watchlist, Some("anna"))]),
            file("Dune: Part Two (2024)", "movies/Dune 2/Dune 2.en.srt", 83 << 10, &[]),
            file("Foundation S01E01", "tv/Foundation/S01E01.mkv", 7 * GIB, &[(Source::NextEpisode, Some("ben"))]),
            file("", "tv/Andor/S02E03.mkv", 5 * GIB, &[]),
        ];
        Arc::make_mut(&mut files[2].cached).action.unit = files[1].cached.action.unit.clone();
        (files[3].wanted, files[3].release) =
            (false, Some(Release { at: at("2026-11-26T07:20:00Z"), why: EvictWhy::Watched }));
        files[4].state = Some(CopyState::Changed);
        let tier = TierStatus {
            map: "/data/media".to_owned(),
            cache_root: Utf8PathBuf::from("/mnt/cache/media"),
            total: Some(931 * GIB),
            free: Some(380 * GIB),
            owned: 57 * GIB,
            limit: Some(500 * GIB),
        };
        let gone = TierStatus {
            map: "/data/music".to_owned(),
            cache_root: Utf8PathBuf::from("/mnt/gone/music"),
            total: None,
            free: None,
            owned: 0,
            limit: None,
        };
        Status {
            now: at("2026-11-23T19:20:00Z"),
            tiers: vec![tier, gone],
            files,
            last_run: Some(last_run(Some(RunOutcome::Partial))),
            health: vec!["run 215 was partial (plexcache history 215)".to_owned()],
            live: None,
            running: false,
        }
    }

    fn run(run: u64, began: &str, ended: &str, finished: RunFinished) -> Run {
        let started = RunStarted {
            command: "sync".to_owned(),
            options: Vec::new(),
            trigger: String::new(),
            host: String::new(),
            version: String::new(),
            undo_of: Vec::new(),
            hold_seconds: None,
        };
        Run { run, started, at: at(began), finished: Some((at(ended), finished)), actions: Vec::new(), undone_by: None }
    }

    /// A run that went well and one in which a file failed.
    pub(in crate::report) fn runs() -> Vec<Run> {
        let mut runs = vec![
            run(214, "2026-11-23T05:15:00Z", "2026-11-23T05:20:00Z", finished(RunOutcome::Ok, 1)),
            run(215, "2026-11-23T17:20:00Z", "2026-11-23T17:22:14Z", finished(RunOutcome::Partial, 6)),
        ];
        let ended = serde_json::json!({"seq": 1, "result": "failed", "error": "changed while it was copied"});
        let ended: Ended = serde_json::from_value(ended).unwrap();
        assert_eq!(ended.result, Outcome::Failed);
        let action = file("Severance S02E06", "tv/Severance/S02E06.mkv", 4 * GIB, &[]).cached.action.clone();
        runs[1].actions.push(RunAction { seq: 1, action, ended: Some(ended) });
        runs
    }

    fn page(status: &Status, runs: &[Run]) -> String {
        let page = render(status, runs, TimeZone::fixed(tz::offset(1)));
        assert_well_formed(&page);
        page
    }

    /// Every tag that is opened is closed, in the right order; attributes are quoted; `&` begins an entity.
    fn assert_well_formed(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
        while let Some((text, tag)) = rest.split_once('<') {
            assert!(!text.contains('>') || open.last() == Some(&"style"), "stray > in {text:?}");
            for entity in text.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
                assert!(known.iter().any(|known| entity.starts_with(known)), "stray & in {text:?}");
            }
            let (tag, after) = tag.split_once('>').unwrap();
            rest = after;
            // The end tags that HTML lets a table leave out.
            let ends = |open: &str| match open {
                "td" => ["td", "tr", "/tbody"].contains(&tag),
                _ => open == "tr" && ["tr", "/tbody"].contains(&tag),
            };
            while open.last().is_some_and(|open| ends(open)) {
                open.pop();
            }
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "before {after:.80}");
                continue;
            }
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            assert_eq!(attributes.matches('"').count(), attributes.matches("=\"").count() * 2, "{tag}");
            if !["meta", "link"].contains(&name) && !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
        assert_eq!(rest, "\n");
    }

    #[test]
    fn the_page_tells_what_is_cached_why_and_until_when() {
        let page = page(&status(), &runs());
        for expected in [
            "<li>run 215 was partial (plexcache history 215)</li>",
            "Mon 23 Nov 2026, 20:20",
            "<th scope=\"row\">Dune: Part Two (2024) <small>2 files</small></th><td>watchlist: anna<td>41.0 GiB\
             <td><time>2026-11-20</time><td>\n",
            "on deck: anna, ben; pinned<td>",
            "in 2 d</time>, watched\n",
            "<th scope=\"row\">tv/Andor/S02E03.mkv</th>",
            "! changed since it was cached",
            "57.0 GiB of 500.0 GiB · 11 %",
            "✗ cannot be looked at",
            "<li>Severance S02E06: changed while it was copied</li>",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
    }

    #[test]
    fn an_empty_house_has_a_page() {
        let mut status = status();
        status.files.clear();
        status.tiers.clear();
        status.last_run = None;
        let page = page(&status, &[]);
        assert!(page.contains("There has been no run yet.") && page.contains("Nothing."));
    }

    #[test]
    fn hostile_text_is_text_wherever_it_comes_from() {
        let mut status = status();
        let mut runs = runs();
        status.health.push(HOSTILE.to_owned());
        status.tiers[0].map = HOSTILE.to_owned();
        status.tiers[0].cache_root = HOSTILE.into();
        status.live = Some(crate::report::ServerLine { version: HOSTILE.to_owned(), users: 1, playing: Some(1) });
        status.last_run.as_mut().unwrap().command = HOSTILE.to_owned();
        let user = Reason::of_user(Source::OnDeck, HOSTILE);
        Arc::make_mut(&mut status.files[0].cached).action.title = HOSTILE.into();
        Arc::make_mut(&mut status.files[0].cached).action.reasons.insert(user);
        Arc::make_mut(&mut status.files[4].cached).action.unit = MediaPath::parse("a/<script>\"'&").unwrap();
        runs[1].started.command = HOSTILE.to_owned();
        runs[1].finished.as_mut().unwrap().1.error = Some(HOSTILE.to_owned());
        runs[1].actions[0].action.title = HOSTILE.into();
        runs[1].actions[0].ended.as_mut().unwrap().error = Some(HOSTILE.to_owned());
        let page = page(&status, &runs);
        let shown = "&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot; onload=&quot;&amp;amp;\\u{202e}\\u{1b}[2J\\u{a}";
        assert_eq!(page.matches(shown).count(), 12);
        assert!(page.contains("a/&lt;script&gt;&quot;&#39;&amp;"));
        assert!(!page.contains("<script") && !page.contains(['\u{202e}', '\u{1b}']));
        assert!(page.contains(&format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">")));
    }

    #[test]
    fn five_hundred_rows_and_thirty_runs_stay_below_100_kb() {
        let mut status = status();
        status.files = (0..500)
            .map(|number| {
                let reasons = [(Source::OnDeck, Some("anna")), (Source::OnDeck, Some("benjamin"))];
                let title = format!("The Long Show S{:02}E{:02}", number / 24, number % 24);
                let mut file = file(&title, &format!("tv/{number}.mkv"), 4 * GIB, &reasons);
                if number % 3 == 0 {
                    file.release = Some(Release { at: at("2026-12-26T07:20:00Z"), why: EvictWhy::Unwanted });
                }
                file
            })
            .collect();
        let runs: Vec<Run> = runs().into_iter().cycle().take(30).collect();
        let page = page(&status, &runs);
        assert_eq!(page.matches("<th scope=\"row\">The Long Show").count(), 500);
        assert!(page.len() < 100_000, "{}", page.len());
    }

    #[test]
    fn a_history_of_absurd_numbers_still_makes_a_page() {
        let mut status = status();
        let mut runs = runs();
        let absurd = Count { files: u64::MAX, bytes: u64::MAX };
        let finished = &mut runs[1].finished.as_mut().unwrap().1;
        (finished.cached, finished.evicted) = (absurd, absurd);
        (status.tiers[0].limit, status.tiers[0].total, status.tiers[0].free) = (Some(0), Some(0), Some(u64::MAX));
        (status.tiers[0].owned, Arc::make_mut(&mut status.files[0].cached).action.size) = (u64::MAX, u64::MAX);
        status.files[3].release = Some(Release { at: Timestamp::MAX, why: EvictWhy::Unwanted });
        runs[0].at = Timestamp::MIN;
        page(&status, &runs);
    }
}
