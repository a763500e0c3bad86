//! Being asked to stop: the first SIGINT, SIGTERM or SIGHUP raises a flag, the second kills.
//!
//! Between the two everything that runs finishes its bookkeeping: a copy is looked at once a block,
//! its partial file removed and its outcome recorded. SIGPIPE is ignored, so that a closed pager is an
//! error like any other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Exit;

/// Whether, and by which signal, the program was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct StopFlag {
    signal: Arc<AtomicUsize>,
}

impl StopFlag {
    /// Installs the handlers. Once for the life of the process.
    pub fn install() -> io::Result<Self> {
        let stop = Self::default();
        let armed = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).expect("signal numbers are positive");
            // In this order: the second signal finds the program armed and takes the default action.
            flag::register_conditional_default(signal, Arc::clone(&armed))?;
            flag::register(signal, Arc::clone(&armed))?;
            flag::register_usize(signal, Arc::clone(&stop.signal), number)?;
        }
        Ok(stop)
    }

    pub fn is_raised(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// The exit status that tells which signal it was; `None` when there was none.
    pub fn exit(&self) -> Option<Exit> {
        match i32::try_from(self.signal.load(Ordering::Relaxed)) {
            Ok(0) => None,
            Ok(SIGINT) => Some(Exit::Interrupted),
            _ => Some(Exit::Terminated),
        }
    }
}
