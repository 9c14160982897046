//! Logging to standard error: text for people, JSON lines for collectors.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

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

/// Starts logging for the whole process. Call it once.
pub fn start(settings: &Settings) -> Result<(), BadLevel> {
    let filter = EnvFilter::builder()
        .parse(&settings.log_level)
        .map_err(|source| BadLevel { level: settings.log_level.clone(), source })?;
    let noisy = NOISY.iter().filter(|(crate_name, _)| !settings.log_level.contains(crate_name));
    let filter = noisy.fold(filter, |filter, (_, directive)| filter.add_directive(quiet(directive)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        Format::Text => {
            builder.with_target(false).with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
        }
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
