//! The service manager's side: readiness, and the signals that stop or reload a daemon.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{config, log};

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM or SIGINT: drain and end with 0.
    Stop,
    /// SIGHUP: read again what can be read again.
    Reload,
}

/// The signals that say what the operator wants.
pub struct Wishes {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Wishes {
    /// Listens for the signals from now on. Needs a tokio runtime.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next wish. May be dropped and called again.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// Tells the service manager that the daemon serves (sd_notify(3)). Without one this does nothing.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells the service manager how it goes, in one line for people.
pub fn status(line: &str) {
    notify(&[NotifyState::Status(line)]);
}

/// Tells the service manager now and then that the daemon is alive, if it wants to know (`WatchdogSec=` in
/// systemd.service(5)).
#[derive(Debug)]
pub struct Watchdog {
    interval: Option<Duration>,
    next_at: Instant,
}

impl Watchdog {
    /// Asks what the service manager wants.
    pub fn new() -> Self {
        // Half of the time that it waits, as sd_watchdog_enabled(3) advises.
        Self { interval: sd_notify::watchdog_enabled().map(|limit| limit / 2), next_at: Instant::now() }
    }

    /// To be called often; tells as often as is wanted.
    pub fn alive(&mut self) {
        let Some(interval) = self.interval else { return };
        let now = Instant::now();
        if now >= self.next_at {
            self.next_at = now + interval;
            notify(&[NotifyState::Watchdog]);
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells the service manager that the daemon drains.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Runs a daemon to its end on a runtime of its own. What fails is logged with its causes, and gives exit code 1.
pub fn run(daemon: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(daemon));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %format!("{error:#}"), "cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// The settings that every daemon has.
pub trait Daemon: clap::Parser {
    /// How it logs.
    fn log(&self) -> &log::Settings;

    /// Whether it is to print its settings and end.
    fn print_config(&self) -> bool;

    /// Where its last log lines are kept, for those who ask the daemon itself.
    fn recent_log() -> Option<&'static log::Recent> {
        None
    }

    /// It is told all settings in force as `--print-config` shows them, secrets masked.
    fn printed(&mut self, _settings: String) {}

    /// Refuses a setting that does nothing beside the others.
    ///
    /// # Errors
    /// [`WithoutEffect`](config::WithoutEffect).
    fn check(&self) -> Result<(), config::WithoutEffect> {
        Ok(())
    }
}

/// How every daemon begins: reads its settings, prints them if that was asked for, and starts logging.
///
/// # Errors
/// The exit code with which the process ends at once: 0 after printing, 2 for wrong settings.
pub fn begin<D: Daemon>(default_file: &str) -> Result<D, ExitCode> {
    let (mut settings, printed) = config::read::<D>(default_file).map_err(|error| error.report())?;
    if settings.print_config() {
        return Err(print(&printed));
    }
    settings.check().map_err(|error| config::ConfigError::from(error).report())?;
    log::start(settings.log(), D::recent_log()).map_err(|error| refuse(&error.to_string()))?;
    settings.printed(printed);
    Ok(settings)
}

/// Prints a text on standard output and succeeds: for `--print-config`.
fn print(text: &str) -> ExitCode {
    // A closed pipe is the reader's wish.
    let _ = write!(std::io::stdout().lock(), "{text}");
    ExitCode::SUCCESS
}

/// Says on standard error why the daemon does not start. Exit code 3: refused.
pub fn refuse(why: &str) -> ExitCode {
    // Nothing is left to do if standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "error: {why}");
    ExitCode::from(3)
}
