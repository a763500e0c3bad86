//! Where text leaves the program: one stream, written whole message by whole message.
//!
//! A reader that has seen enough (`| head`) is no error: the stream is closed and the run goes on. Any
//! other failure to write is told once, on standard error, because a result that got lost is not nothing.

use std::io::{self, Write};

/// An output stream that never panics and never stops a run.
pub(super) struct Sink {
    to: Option<Box<dyn Write + Send>>,
    name: &'static str,
}

impl Sink {
    pub(super) fn stdout() -> Self {
        Self::new(Box::new(io::stdout()), "standard output")
    }

    pub(super) fn stderr() -> Self {
        Self::new(Box::new(io::stderr()), "standard error")
    }

    pub(super) fn new(to: Box<dyn Write + Send>, name: &'static str) -> Self {
        Self { to: Some(to), name }
    }

    /// Writes and flushes `text`; once the stream has failed, nothing.
    pub(super) fn write(&mut self, text: &str) {
        let Some(to) = &mut self.to else { return };
        let Err(error) = to.write_all(text.as_bytes()).and_then(|()| to.flush()) else { return };
        self.to = None;
        if error.kind() != io::ErrorKind::BrokenPipe {
            // Nobody is left to tell should standard error itself be the one that failed.
            drop(writeln!(io::stderr(), "error: cannot write to {}: {error}", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes so many writes and then breaks.
    struct Breaks(Arc<Mutex<Vec<String>>>, usize);

    impl Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut taken = self.0.lock().unwrap();
            taken.push(String::from_utf8_lossy(bytes).into_owned());
            if taken.len() > self.1 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_broken_pipe_nothing_more_is_written() {
        let taken = Arc::default();
        let mut sink = Sink::new(Box::new(Breaks(Arc::clone(&taken), 1)), "a test");
        for text in ["one", "two", "three", "four"] {
            sink.write(text);
        }
        assert_eq!(*taken.lock().unwrap(), ["one", "two"]);
    }
}
