//! The real binary in throw-away worlds: everything that a user can see, point by point.
#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as it does, by a panic")]
#![allow(clippy::disallowed_methods, reason = "a test lays out its own files")]
#![allow(clippy::print_stdout, reason = "a test that has to skip says so")]

mod util;

#[path = "cli/batches.rs"]
mod batches;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/command_line.rs"]
mod command_line;
#[path = "cli/configuration.rs"]
mod configuration;
#[path = "cli/conflicts.rs"]
mod conflicts;
#[path = "cli/dry_run.rs"]
mod dry_run;
#[path = "cli/eviction.rs"]
mod eviction;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/household.rs"]
mod household;
#[path = "cli/init.rs"]
mod init;
#[path = "cli/interruption.rs"]
mod interruption;
#[path = "cli/limits.rs"]
mod limits;
#[path = "cli/long_names.rs"]
mod long_names;
#[path = "cli/maps.rs"]
mod maps;
#[path = "cli/output.rs"]
mod output;
#[path = "cli/placements.rs"]
mod placements;
#[path = "cli/plex_faults.rs"]
mod plex_faults;
#[path = "cli/proof.rs"]
mod proof;
#[path = "cli/races.rs"]
mod races;
#[path = "cli/settling.rs"]
mod settling;
#[path = "cli/sidecars.rs"]
mod sidecars;
#[path = "cli/sources.rs"]
mod sources;
#[path = "cli/sync.rs"]
mod sync;
#[path = "cli/together.rs"]
mod together;
#[path = "cli/undo.rs"]
mod undo;
#[path = "cli/upgrades.rs"]
mod upgrades;
#[path = "cli/wants.rs"]
mod wants;
#[path = "cli/watchlists.rs"]
mod watchlists;
