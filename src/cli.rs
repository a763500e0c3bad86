//! The command line: clap types and help texts, nothing else.
//!
//! The manual pages and completions are generated from here, so what a user reads anywhere is what is
//! parsed. Values keep the form in which they were typed as far as they depend on the configuration's
//! syntax; commands get them checked. No secret is ever an argument.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::config::{Rate, parse_bytes, parse_duration};

/// Keeps on the SSD what each person will play next in Plex.
///
/// Asks Plex what is on deck, has those files and the next episodes on the fast
/// disk before anybody presses play, and takes them off again afterwards. Plex's
/// path to a file never changes. Every change is recorded before it is made, and
/// can be taken back with undo. To be run by cron or a systemd timer.
#[derive(Debug, Parser)]
#[command(
    name = "plexcache",
    version,
    max_term_width = 80,
    help_expected = true,
    infer_subcommands = false,
    after_help = "Start with: plexcache init. See plexcache(1) and plexcache.toml(5)."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Global {
    /// Read the configuration from FILE
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<Utf8PathBuf>,
    /// Keep history and state in DIR
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
    /// Show what would be done and change nothing (sync, evict, undo, init)
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,
    /// Answer questions with yes, and accept replaced or removed disks and another server
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Print nothing unless something is wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for the requests to Plex and each step with a file
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print JSON lines
    #[arg(long, global = true)]
    pub json: bool,
    /// Colour the output
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Show no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Never ask; what would need an answer is refused
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Wait for another run to end, for ever or for DURATION
    #[arg(long, global = true, value_name = "DURATION", num_args = 0..=1, require_equals = true,
          default_missing_value = "3650d", value_parser = duration)]
    pub wait: Option<Duration>,
    /// Copy at most so many bytes a second, such as 50MB/s
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    pub bwlimit: Option<u64>,
    /// Begin no further file after so many bytes were copied
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub max_transfer: Option<u64>,
    /// Begin no further file after so long
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub max_duration: Option<Duration>,
    /// With --dry-run: exit with 10 when there is something to do
    #[arg(long, global = true)]
    pub exit_code: bool,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration
    ///
    /// Takes the token from Plex's own settings on this machine, or has you link
    /// the machine at plex.tv/link; asks Plex for its folders; finds each of them
    /// here by a file of it; and proposes a map for it from what is mounted. On a
    /// terminal it asks, otherwise it takes what is clear and says what is not.
    /// Nothing is written before the end, and no configuration is replaced unless
    /// you say so.
    ///
    /// With --import the settings of PlexCache-D are taken over, and then the files
    /// that it has cached: both copies are compared and recorded, and stay as they
    /// are. From then on evict and undo bring them back to the array.
    Init(InitArgs),
    /// Cache what Plex will play next and evict what is no longer wanted
    ///
    /// Evicts what nobody wants any more, after its grace time, and what has to
    /// make room for something of higher rank; then caches what is wanted, one
    /// disk after the other. A source that cannot be read keeps its last good
    /// answer: nothing is evicted because something was not known.
    Sync(SyncArgs),
    /// Take files off the cache
    ///
    /// Without a selection: what sync would evict, which needs Plex. With one,
    /// Plex is not asked, and files that somebody on this host has open stay.
    /// Nothing is lost: the array has the file, or gets it back first.
    Evict(EvictArgs),
    /// Show what is on the cache, why, and until when
    ///
    /// Reads the state and the cache only: needs neither Plex nor the array, and
    /// wakes no disk, unless told to with --live.
    Status(StatusArgs),
    /// Take back a run
    ///
    /// Puts every file that the run moved back on the tier it was on before,
    /// newest first. A file that has changed since is left alone and reported.
    /// An undo is a run like any other: undoing it is a redo. What an undo moves
    /// stays where it is for a day unless configured otherwise.
    Undo(UndoArgs),
    /// Show the runs and what they did
    ///
    /// Newest first; with the number of a run its actions and what came of each.
    History(HistoryArgs),
    /// Look for what is wrong, and say what to do about it
    ///
    /// Proves every map on real items of Plex, from Plex's path to the file on
    /// the array and in the merged view, and looks at token, users, roots, room,
    /// rights, the union, movers, the clock and the state directory. Changes
    /// nothing, unless told to with --probe. Ends with 1 when something failed.
    Check(CheckArgs),
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// End with 3 when there are warnings
    #[arg(long)]
    pub strict: bool,
    /// Make and remove a tiny file on both tiers, to see which one is served
    #[arg(long)]
    pub probe: bool,
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The address of the Plex server; none: port 32400 of this machine
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Use the token in FILE, and leave it there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preferences", "link"])]
    pub token_file: Option<Utf8PathBuf>,
    /// Take the token from this Preferences.xml of Plex
    #[arg(long, value_name = "FILE", conflicts_with = "link")]
    pub preferences: Option<Utf8PathBuf>,
    /// Get a token by a code that you type at plex.tv/link
    #[arg(long)]
    pub link: bool,
    /// The fast disk, or a folder on it
    #[arg(long, value_name = "DIR")]
    pub cache: Option<Utf8PathBuf>,
    /// Plex's folder PLEX is DIR on this machine (repeatable)
    #[arg(long, value_name = "PLEX=DIR", value_parser = pair)]
    pub map: Vec<(String, Utf8PathBuf)>,
    /// Take over the settings of PlexCache-D in FILE, and what it has cached
    #[arg(long, value_name = "FILE")]
    pub import: Option<Utf8PathBuf>,
    /// Only take over what PlexCache-D has cached; the configuration is there
    #[arg(long, conflicts_with_all = ["url", "token_file", "preferences", "link", "cache", "map", "import", "force"])]
    pub adopt: bool,
    /// Replace a configuration that is there
    #[arg(long)]
    pub force: bool,
}

/// `sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Only cache; evict nothing, not even to make room
    #[arg(long)]
    pub no_evict: bool,
}

/// `evict`.
#[derive(Debug, Args)]
pub struct EvictArgs {
    /// Files or folders, by any of their paths; none: what sync would evict
    #[arg(value_name = "PATH", conflicts_with_all = ["all", "older_than", "free"])]
    pub paths: Vec<String>,
    /// Everything but what is pinned
    #[arg(long, conflicts_with_all = ["older_than", "free"])]
    pub all: bool,
    /// With --all: what is pinned too
    #[arg(long, requires = "all")]
    pub pinned: bool,
    /// What was cached longer ago than DURATION, such as 30d
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "free")]
    pub older_than: Option<Duration>,
    /// Lowest priority first, until so much is freed
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub free: Option<u64>,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Ask Plex and look at the array too
    #[arg(long)]
    pub live: bool,
    /// Explain one file: who wants it, and what would evict it and when
    #[arg(long, value_name = "PATH")]
    pub why: Option<String>,
    /// Write a page to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<Utf8PathBuf>,
    /// Write metrics for Prometheus' textfile collector to FILE
    #[arg(long, value_name = "FILE")]
    pub prometheus: Option<Utf8PathBuf>,
    /// Print one line for Nagios, and exit with its statuses 0 to 3
    #[arg(long, conflicts_with_all = ["why", "json"])]
    pub nagios: bool,
}

/// `undo`.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The number of the run; none: the newest one not yet undone
    #[arg(value_name = "RUN")]
    pub run: Option<u64>,
    /// Take back the last N runs
    #[arg(long, value_name = "N", conflicts_with = "run", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub last: u32,
}

/// `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Show the actions of this run
    #[arg(value_name = "RUN")]
    pub run: Option<u64>,
    /// Only runs that touched a file whose path contains TEXT
    #[arg(long, value_name = "TEXT")]
    pub path: Option<String>,
    /// Only runs since WHEN: a date, a time, or a duration back, such as 7d
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<Timestamp>,
    /// Only runs until WHEN
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub until: Option<Timestamp>,
    /// Only runs in which something failed
    #[arg(long)]
    pub failed: bool,
    /// Only runs of this command
    #[arg(long, value_name = "COMMAND", value_parser = ["sync", "evict", "undo", "init"])]
    pub command: Option<String>,
    /// Show at most N runs
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Show totals instead
    #[arg(long, conflicts_with = "csv")]
    pub stats: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// Two folders; the second one is absolute, so an `=` in the first does no harm.
fn pair(text: &str) -> Result<(String, Utf8PathBuf), String> {
    match text.rfind("=/") {
        Some(at) if at > 0 => Ok((text[..at].to_owned(), text[at + 1..].into())),
        _ => Err("expected PLEX=DIR, such as /data/media=/mnt/user/media".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<u64, String> {
    parse_bytes(text).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<u64, String> {
    text.parse::<Rate>().map(Rate::bytes_per_second).map_err(|error| error.to_string())
}

/// A time stamp, a date in local time, or a duration before now.
fn when(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        return local.to_zoned(jiff::tz::TimeZone::system()).map(|at| at.timestamp()).map_err(|e| e.to_string());
    }
    let back = parse_duration(text).map_err(|_| "expected a date, a time, or a duration such as 7d".to_owned())?;
    let back = jiff::SignedDuration::try_from(back).map_err(|error| error.to_string())?;
    Timestamp::now().checked_sub(back).map_err(|error| error.to_string())
}

/// The whole command, for the generators of manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_option_has_help() {
        command().debug_assert();
    }

    #[test]
    fn every_help_fits_in_80_columns() {
        let mut all = vec![command()];
        while let Some(mut command) = all.pop() {
            let text = command.render_long_help().to_string() + &command.render_help().to_string();
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
            all.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn a_wait_without_a_duration_waits_for_ever() {
        let cli = Cli::parse_from(["plexcache", "sync", "--wait"]);
        assert!(cli.global.wait.unwrap() > Duration::from_secs(365 * 86400));
        let cli = Cli::parse_from(["plexcache", "--wait=5m", "sync"]);
        assert_eq!(cli.global.wait, Some(Duration::from_secs(300)));
    }
}
