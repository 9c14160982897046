//! Logging to standard error: text for people, JSON lines for collectors. A daemon that wants to keeps its last lines.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The logging arguments of a daemon.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// How log lines look.
    #[arg(long, env = "WARREN_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
    /// error, warn, info, debug or trace; also by module: info,link=debug.
    #[arg(long, env = "WARREN_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Lines that are kept: some minutes of a busy server, some hours of a calm one.
const KEPT_LINES_MAX: usize = 4096;
/// Of a longer line the beginning is kept: all of them together stay below 4 MiB.
const KEPT_LINE_BYTES_MAX: usize = 1024;

/// The last lines of a daemon's log, in memory.
#[derive(Debug)]
pub struct Recent(Mutex<VecDeque<Box<str>>>);

impl Recent {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|line| (**line).to_owned()).collect()
    }

    fn keep(&self, line: &str) {
        let end = line.floor_char_boundary(KEPT_LINE_BYTES_MAX);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(line[..end].trim_end().into());
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the subscriber writes what is kept, if anything is. It writes a line at once.
#[derive(Clone, Copy)]
struct Keeper(Option<&'static Recent>);

impl io::Write for Keeper {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(recent) = self.0 {
            recent.keep(&String::from_utf8_lossy(line));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Keeper {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        *self
    }
}

/// The level is none.
#[derive(Debug, thiserror::Error)]
#[error("--log-level {level:?} is not understood: {source}")]
pub struct BadLevel {
    level: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Heard less, unless --log-level names it: boringtun calls every retried handshake an error, and hickory warns of every
/// connection that a server of names closes.
const NOISY: [(&str, &str); 2] = [("boringtun", "boringtun=off"), ("hickory_net", "hickory_net=error")];

fn quiet(directive: &str) -> Directive {
    directive.parse().expect("a directive")
}

/// Starts logging for the whole process, and keeping the last lines where somebody wants them. Call it once.
pub fn start(settings: &Settings, recent: Option<&'static Recent>) -> Result<(), BadLevel> {
    let filter = EnvFilter::builder()
        .parse(&settings.log_level)
        .map_err(|source| BadLevel { level: settings.log_level.clone(), source })?;
    let noisy = NOISY.iter().filter(|(crate_name, _)| !settings.log_level.contains(crate_name));
    let filter = noisy.fold(filter, |filter, (_, directive)| filter.add_directive(quiet(directive)));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr.and(Keeper(recent)));
    match settings.log_format {
        Format::Text => {
            builder.with_target(false).with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init();
        }
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let recent = Recent::new();
        for n in 0..KEPT_LINES_MAX + 3 {
            recent.keep(&format!("line {n}\n"));
        }
        recent.keep(&"é".repeat(KEPT_LINE_BYTES_MAX));
        let lines = recent.lines();
        assert_eq!((lines.len(), &*lines[0]), (KEPT_LINES_MAX, "line 4"));
        assert_eq!(lines.last().map(String::len), Some(KEPT_LINE_BYTES_MAX));
    }
}
