//! The real binary, killed and given errors at every step at which it changes anything.
//!
//! A stepper (ptrace and a seccomp filter, no tool needed) stops the program before each system call that
//! could change a file of the world, numbers them through all threads, and either kills the process
//! there or has the call fail. Killing before call N+1 is killing after call N.
//!
//! | | what happens | where |
//! |---|---|---|
//! | crash | SIGKILL before every call of `sync`, `evict --all` and `undo --yes` | [`kill`] |
//! | crash twice | SIGKILL at every fifth call, then at every fifth call of the run that repairs | [`kill`] |
//! | no NOREPLACE | the same crashes where renaming without replacing takes a link and an unlink | [`kill`] |
//! | somebody else | the file is replaced between two calls, with and without a kill soon after | [`kill`] |
//! | a writer | the file is opened for writing between two calls, and written to later | [`kill`] |
//! | error | EIO, ENOSPC, EDQUOT, EACCES, EROFS once at every call, and from there on | [`errors`] |
//! | signal | EINTR once at every call | [`errors`] |
//! | a stop | SIGTERM before every call | [`kill`] |
//! | short write | half of what is asked for at every write, and from there on | [`errors`] |
//! | power cut | the order of effects, syncs and records: nothing is relied on before it is durable | [`durability`] |
//! | full state disk | no media file is touched after the first write to the history that fails | [`errors`] |
//! | large file | kills, errors and short writes while threads copy it past the page cache | [`large`] |
//! | several units | kills, errors and power cuts while files, and the folders they need, share their syncs | [`units`] |
//! | lanes | kills, errors and power cuts while two lanes are at work; as root | [`lanes`] |
//!
//! Each in every placement. What must hold after the fault, after each of the two runs that follow, and
//! when all is evicted at the end, is in [`world`].
//!
//! `PLEXCACHE_FAULT_STRIDE=1` tries every call; without it every few calls are tried, so that an ordinary
//! `cargo test` stays short.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as it does, by a panic")]
#![allow(clippy::disallowed_methods, reason = "a test lays out its own files")]
#![allow(unreachable_pub, reason = "the modules of a test binary have no outside")]
#![allow(clippy::print_stdout, reason = "how many calls there were is worth knowing")]

mod util;

#[path = "faults/durability.rs"]
mod durability;
#[path = "faults/errors.rs"]
mod errors;
#[path = "faults/kill.rs"]
mod kill;
#[path = "faults/lanes.rs"]
mod lanes;
#[path = "faults/large.rs"]
mod large;
#[path = "faults/order.rs"]
mod order;
#[path = "faults/stepper.rs"]
mod stepper;
#[path = "faults/units.rs"]
mod units;
#[path = "faults/world.rs"]
mod world;
