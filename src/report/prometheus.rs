//! Metrics in Prometheus' text format, for the node exporter's textfile collector.
//!
//! Pure. Only what is known is written: a cache root that cannot be looked at has no sample, where a 0
//! would look like an empty disk. No sample carries a time of its own, because the collector refuses
//! such a file (node exporter, README, "Textfile Collector"). Counters are sums over the whole history, so
//! they only ever grow.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use jiff::Timestamp;

use super::nagios::level;
use super::{FileStatus, Level, Status};
use crate::history::record::{Count, RunFinished, RunOutcome};
use crate::history::{CommandTotals, FinishedRun, Totals};
use crate::plan::CopyState;
use crate::report::words::bytes_of;

const OUTCOMES: [RunOutcome; 5] =
    [RunOutcome::Ok, RunOutcome::Partial, RunOutcome::Failed, RunOutcome::Stopped, RunOutcome::Refused];

/// The metrics of `status` and of all runs.
pub fn prometheus(status: &Status, totals: &Totals) -> String {
    let mut metrics = Metrics(String::new());
    metrics.gauge("build_info", "The release that wrote this.", |m| {
        m.put(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    });
    metrics.of_health(status);
    metrics.of_cache(status);
    metrics.of_last_runs(status, totals);
    metrics.of_all_runs(totals);
    metrics.0
}

/// The text so far.
struct Metrics(String);

/// Takes the samples of one metric.
struct Samples<'a> {
    name: &'a str,
    text: String,
}

impl Metrics {
    fn of_health(&mut self, status: &Status) {
        self.gauge("health_level", "0 when all is well, 1 for a warning, 2 when critical.", |m| {
            m.put(
                &[],
                match level(status) {
                    Level::Ok => 0,
                    Level::Warning => 1,
                    Level::Critical => 2,
                },
            );
        });
        self.gauge("health_problems", "Things that are wrong; plexcache status tells which.", |m| {
            m.put(&[], status.health.len());
        });
        if let Some(server) = &status.live {
            self.gauge("plex_up", "1 when Plex answered just now.", |m| m.put(&[], 1));
            if let Some(playing) = server.playing {
                self.gauge("plex_sessions", "What Plex plays now.", |m| m.put(&[], playing));
            }
        }
    }

    fn of_cache(&mut self, status: &Status) {
        let mut maps: BTreeMap<&str, Vec<&FileStatus>> =
            status.tiers.iter().map(|tier| (tier.map.as_str(), Vec::new())).collect();
        for file in &status.files {
            maps.entry(&file.cached.action.map).or_default().push(file);
        }
        self.gauge("cached_files", "Files that plexcache keeps on the cache.", |m| {
            m.by("map", maps.iter().map(|(map, files)| (*map, Some(files.len()))));
        });
        self.gauge("cached_bytes", "Size of the files that plexcache keeps on the cache.", |m| {
            m.by("map", maps.iter().map(|(map, files)| (*map, Some(bytes_of(files.iter().copied())))));
        });
        for (name, state, help) in [
            ("diverged_files", CopyState::Changed, "Cached copies that somebody changed since they were made."),
            ("missing_files", CopyState::Gone, "Cached copies that are gone from the cache."),
        ] {
            self.gauge(name, help, |m| {
                // One file that cannot be looked at makes the number unknown, not smaller.
                let number = |files: &[&FileStatus]| {
                    let found: Option<Vec<CopyState>> = files.iter().map(|file| file.state).collect();
                    found.map(|found| found.into_iter().filter(|found| *found == state).count())
                };
                m.by("map", maps.iter().map(|(map, files)| (*map, number(files))));
            });
        }
        let tiers: BTreeMap<&str, _> = status.tiers.iter().map(|tier| (tier.map.as_str(), tier)).collect();
        self.gauge("cache_usable", "1 when the cache root of the map can be looked at.", |m| {
            m.by("map", tiers.iter().map(|(map, tier)| (*map, Some(u8::from(tier.total.is_some())))));
        });
        self.gauge("limit_bytes", "What plexcache may own on the file system of the map's cache root.", |m| {
            m.by("map", tiers.iter().map(|(map, tier)| (*map, tier.limit)));
        });
        self.gauge("cache_size_bytes", "Size of the file system of the map's cache root.", |m| {
            m.by("map", tiers.iter().map(|(map, tier)| (*map, tier.total)));
        });
        self.gauge("cache_free_bytes", "Free on the file system of the map's cache root.", |m| {
            m.by("map", tiers.iter().map(|(map, tier)| (*map, tier.free)));
        });
    }

    fn of_last_runs(&mut self, status: &Status, totals: &Totals) {
        let last = || totals.commands.iter().map(|(command, totals)| (command.as_str(), &totals.last));
        if let Some(newest) = &status.last_run {
            self.gauge("run_unfinished", "1 when the newest run was cut short.", |m| {
                m.put(&[], u8::from(newest.finished.is_none() && !status.running));
            });
        }
        self.gauge("last_run_timestamp_seconds", "When the last finished run of the command ended.", |m| {
            m.by("command", last().map(|(command, run)| (command, Some(run.at.as_second()))));
        });
        self.gauge(
            "last_success_timestamp_seconds",
            "When the last run of the command without any trouble ended.",
            |m| {
                let ended = |totals: &CommandTotals| totals.last_success.map(Timestamp::as_second);
                m.by("command", totals.commands.iter().map(|(command, totals)| (command.as_str(), ended(totals))));
            },
        );
        self.gauge("last_run_duration_seconds", "How long the last finished run of the command took.", |m| {
            for (command, FinishedRun { started, at, .. }) in last() {
                let millis = at.duration_since(*started).as_millis().max(0);
                m.put(&[("command", command)], format_args!("{}.{:03}", millis / 1000, millis % 1000));
            }
        });
        self.gauge("last_run_outcome", "1 for how the last finished run of the command ended, 0 for all else.", |m| {
            for (command, run) in last() {
                for outcome in OUTCOMES {
                    let labels = [("command", command), ("outcome", outcome.word())];
                    m.put(&labels, u8::from(run.what.outcome == outcome));
                }
            }
        });
        self.gauge("last_run_files", "Files of the last finished run of the command, by what came of them.", |m| {
            for (command, run) in last() {
                for (action, count) in counts(&run.what) {
                    m.put(&[("command", command), ("action", action)], count.files);
                }
            }
        });
        self.gauge("last_run_bytes", "Size of the files of the last finished run of the command.", |m| {
            for (command, run) in last() {
                for (action, count) in counts(&run.what) {
                    m.put(&[("command", command), ("action", action)], count.bytes);
                }
            }
        });
    }

    fn of_all_runs(&mut self, totals: &Totals) {
        let Totals { commands, cached, evicted, failed, skipped } = totals;
        let sums = [("cached", cached), ("evicted", evicted), ("failed", failed), ("skipped", skipped)];
        self.counter("runs_total", "Finished runs by command and outcome.", |m| {
            for (command, totals) in commands {
                for (outcome, number) in &totals.ended {
                    m.put(&[("command", command), ("outcome", outcome.word())], number);
                }
            }
        });
        self.counter("files_total", "Files of all runs, by what came of them.", |m| {
            m.by("action", sums.iter().map(|(action, count)| (*action, Some(count.files))));
        });
        self.counter("bytes_total", "Size of the files of all runs, by what came of them.", |m| {
            m.by("action", sums.iter().map(|(action, count)| (*action, Some(count.bytes))));
        });
    }

    fn gauge(&mut self, name: &str, help: &str, samples: impl FnOnce(&mut Samples<'_>)) {
        self.metric("gauge", name, help, samples);
    }

    fn counter(&mut self, name: &str, help: &str, samples: impl FnOnce(&mut Samples<'_>)) {
        self.metric("counter", name, help, samples);
    }

    /// A metric without any sample is left out.
    fn metric(&mut self, kind: &str, name: &str, help: &str, samples: impl FnOnce(&mut Samples<'_>)) {
        let mut taken = Samples { name, text: String::new() };
        samples(&mut taken);
        if !taken.text.is_empty() {
            self.0.push_str(
                &[format!("# HELP plexcache_{name} {help}\n# TYPE plexcache_{name} {kind}\n"), taken.text].concat(),
            );
        }
    }
}

impl Samples<'_> {
    fn put(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let Self { name, text } = self;
        writeln!(text, "plexcache_{name}{} {value}", Labels(labels)).expect("a String takes everything");
    }

    /// One sample for each value of `label`, where the number is known.
    fn by<'a, T: Display>(&mut self, label: &str, values: impl IntoIterator<Item = (&'a str, Option<T>)>) {
        for (value, number) in values {
            if let Some(number) = number {
                self.put(&[(label, value)], number);
            }
        }
    }
}

fn counts(run: &RunFinished) -> [(&'static str, Count); 4] {
    [("cached", run.cached), ("evicted", run.evicted), ("failed", run.failed), ("skipped", run.skipped)]
}

/// `{name="value",…}`, with the three escapes that the format knows.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, value)) in self.0.iter().enumerate() {
            write!(f, "{}{name}=\"", if number == 0 { "{" } else { "," })?;
            for c in value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::html::tests::{runs, status};
    use super::*;
    use crate::report::{ServerLine, TierStatus};

    const HOSTILE: &str = "/a\\b \"quoted\"\nplexcache_plex_up 0\n{}";

    /// Metric, labels and value.
    type Sample = (String, Vec<(String, String)>, f64);

    /// Every sample; fails on whatever the format does not allow.
    fn parse(text: &str) -> Vec<Sample> {
        let mut types = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut samples = Vec::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["gauge", "counter"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(types.insert(name), "{name} has two types");
            } else if !line.starts_with("# HELP ") {
                let (head, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
                assert!(types.contains(name), "{name} has no type before its first sample");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
                assert!(seen.insert(head), "{head} comes twice");
                samples.push((name.to_owned(), parse_labels(labels), value.parse().unwrap()));
            }
        }
        samples
    }

    fn parse_labels(mut text: &str) -> Vec<(String, String)> {
        let mut labels = Vec::new();
        while text != "}" {
            let (name, rest) = text.split_once("=\"").unwrap();
            let mut value = String::new();
            let mut chars = rest.chars();
            loop {
                match chars.next().expect("a label value ends with a quote") {
                    '"' => break,
                    '\\' => value.push(match chars.next().unwrap() {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        c => panic!("no such escape: {c}"),
                    }),
                    c => value.push(c),
                }
            }
            labels.push((name.to_owned(), value));
            text = chars.as_str().trim_start_matches(',');
        }
        labels
    }

    fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Vec<_> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(text).into_iter().find(|sample| sample.0 == name && sample.1 == labels).map(|sample| sample.2)
    }

    fn has(text: &str, name: &str) -> bool {
        parse(text).iter().any(|sample| sample.0 == name)
    }

    #[test]
    fn the_sample_household_is_told_in_numbers() {
        let text = prometheus(&status(), &Totals::of(&runs()));
        let sync = [("command", "sync")];
        let cached = [("action", "cached")];
        for (name, labels, expected) in [
            ("plexcache_build_info", &[("version", env!("CARGO_PKG_VERSION"))][..], 1.0),
            ("plexcache_health_level", &[], 2.0),
            ("plexcache_health_problems", &[], 1.0),
            ("plexcache_run_unfinished", &[], 0.0),
            ("plexcache_cached_files", &[("map", "/data/media")], 5.0),
            ("plexcache_diverged_files", &[("map", "/data/media")], 1.0),
            ("plexcache_missing_files", &[("map", "/data/media")], 0.0),
            ("plexcache_cached_files", &[("map", "/data/music")], 0.0),
            ("plexcache_last_run_timestamp_seconds", &sync, 1_795_454_534.0),
            ("plexcache_last_success_timestamp_seconds", &sync, 1_795_411_200.0),
            ("plexcache_last_run_duration_seconds", &sync, 134.0),
            ("plexcache_last_run_outcome", &[("command", "sync"), ("outcome", "partial")], 1.0),
            ("plexcache_last_run_outcome", &[("command", "sync"), ("outcome", "ok")], 0.0),
            ("plexcache_last_run_files", &[("command", "sync"), ("action", "cached")], 6.0),
            ("plexcache_runs_total", &[("command", "sync"), ("outcome", "ok")], 1.0),
            ("plexcache_files_total", &cached, 7.0),
        ] {
            assert_eq!(value(&text, name, labels), Some(expected), "{name} {labels:?}");
        }
    }

    #[test]
    fn what_is_not_known_has_no_sample() {
        let mut status = status();
        let text = prometheus(&status, &Totals::default());
        for name in ["plexcache_plex_up", "plexcache_plex_sessions", "plexcache_last_run_timestamp_seconds"] {
            assert!(!has(&text, name), "{name}");
        }
        assert_eq!(value(&text, "plexcache_cache_usable", &[("map", "/data/music")]), Some(0.0));
        assert_eq!(value(&text, "plexcache_cache_free_bytes", &[("map", "/data/music")]), None);
        assert_eq!(value(&text, "plexcache_limit_bytes", &[("map", "/data/music")]), None);

        status.files[0].state = None;
        status.live = Some(ServerLine { version: "1.41.3".to_owned(), users: 3, playing: None });
        let text = prometheus(&status, &Totals::default());
        assert_eq!(value(&text, "plexcache_diverged_files", &[("map", "/data/media")]), None);
        assert_eq!(value(&text, "plexcache_plex_up", &[]), Some(1.0));
        assert!(!has(&text, "plexcache_plex_sessions"));
    }

    #[test]
    fn a_run_that_goes_on_does_not_replace_the_last_one() {
        let totals = Totals::of(&runs());
        let mut status = status();
        let before = prometheus(&status, &totals);
        status.last_run.as_mut().unwrap().finished = None;
        let after = prometheus(&status, &totals);
        assert_eq!(value(&after, "plexcache_run_unfinished", &[]), Some(1.0));
        let name = "plexcache_last_run_timestamp_seconds";
        assert_eq!(value(&after, name, &[("command", "sync")]), value(&before, name, &[("command", "sync")]));
    }

    #[test]
    fn hostile_text_stays_within_its_label() {
        let mut status = status();
        status.tiers.push(TierStatus { map: HOSTILE.to_owned(), ..status.tiers[0].clone() });
        let mut runs = runs();
        runs[0].started.command = HOSTILE.to_owned();
        let text = prometheus(&status, &Totals::of(&runs));
        assert!(value(&text, "plexcache_limit_bytes", &[("map", HOSTILE)]).is_some());
        assert!(value(&text, "plexcache_last_run_timestamp_seconds", &[("command", HOSTILE)]).is_some());
        assert!(!has(&text, "plexcache_plex_up"));
    }
}
