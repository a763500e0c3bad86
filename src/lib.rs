//! Keeps on the SSD what each person will play next in Plex, and cannot lose a file.
//!
//! Data flows one way:
//!
//! ```text
//! argv -> cli::Cli -> config::Config -> commands::Command
//!      -> plex (what the server says) and household (for whom)
//!      -> select (what is wanted) -> plan (what to do)
//!      -> commands::Session, the one door -> transfer (files) and history (records)
//!      -> report::Reporter -> exit::Exit
//! ```
//!
//! Lower modules never import higher ones. The plan is data made by pure functions, a dry run prints
//! it and stops at the door. Only `transfer` changes a file of the user's, and it records the intent
//! before and the outcome after.

pub mod checksum;
pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod history;
pub mod household;
pub mod logging;
pub mod paths;
pub mod plan;
pub mod plex;
pub mod report;
pub mod secret;
pub mod select;
pub mod setup;
pub mod shared;
pub mod signal;
pub mod state;
pub mod tier;
pub mod transfer;
