//! The developer's record: `tracing` events on standard error, at the level that `-v` asks for.
//!
//! What a user needs to know goes through the reporter, not through here. No event holds a secret:
//! tokens are a type that does not show itself.

use tracing::level_filters::LevelFilter;

/// Starts logging. `$PLEXCACHE_LOG` (`error` to `trace`) goes before `-v`.
pub fn start(verbose: u8, quiet: bool) {
    let asked = std::env::var("PLEXCACHE_LOG").ok().and_then(|level| level.parse().ok());
    let level = asked.unwrap_or(match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::WARN,
        (_, 1) => LevelFilter::INFO,
        (_, 2) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    });
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    // The journal has its own clock.
    let result = if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().try_init()
    } else {
        builder.try_init()
    };
    if let Err(error) = result {
        tracing::debug!("logging was started before: {error}");
    }
}
