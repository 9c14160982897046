//! `warren-agent wg IFNAME`: the userspace engine alone, configured with `wg`. Knows no mesh and no setting of the agent.
//!
//! It is what wg-quick(8) starts as `WG_QUICK_USERSPACE_IMPLEMENTATION`, with the interface's name and nothing else: a
//! link named `warren-wg` does it. Unless it is to stay in the foreground, the program starts itself once more in a
//! session of its own and reads a line from it, which comes when interface and socket are there.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use host::capabilities::{self, Needed};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd;
use shell::service;
use tunnel::{Config, Crypto, Device, DeviceError, UAPI_DIRECTORY};

/// Under this name the program is this command.
const NAME: &str = "warren-wg";
/// After the name of the agent.
const WORD: &str = "wg";
/// What the one in the background says when it serves.
const READY: &[u8] = b"ready\n";

/// WireGuard in user space: one interface, configured with wg(8) as the kernel's is.
#[derive(Debug, Parser)]
#[command(name = "warren-agent wg", version, no_binary_name = true, max_term_width = 100)]
struct Wish {
    /// Interface to make. It is removed at the end: by SIGTERM or SIGINT, `ip link delete`, or the removal of its socket.
    interface: String,
    /// Stay in the foreground.
    #[arg(short, long, env = "WG_PROCESS_FOREGROUND", value_parser = clap::builder::FalseyValueParser::new())]
    foreground: bool,
    /// auto, reference, avx2 or avx512: what seals packets; auto is the fastest that the processor has.
    #[arg(long, default_value = "auto")]
    crypto: Crypto,
    /// Let the kernel neither cut nor join packets.
    #[arg(long)]
    no_offload: bool,
    /// What is said on standard error; without it as LOG_LEVEL says, else errors.
    #[arg(long)]
    log_level: Option<Level>,
    /// The program was started by itself: its standard output leads to the one that waits.
    #[arg(long, hide = true)]
    awaited: bool,
}

/// How much is said; wireguard-go's words, as scripts that start it set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    Silent,
    Error,
    #[value(alias = "debug")]
    Verbose,
}

impl Wish {
    /// As asked for, or as the environment says where it says one of ours: other programs read it, too.
    fn level(&self, environment: Option<&str>) -> Level {
        let said = || Level::from_str(environment?, true).ok();
        self.log_level.or_else(said).unwrap_or(Level::Error)
    }
}

/// The arguments of this command, if it is the one that was called: by its word, or by the name of the program.
pub fn called(mut line: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let program = line.next()?;
    let is_named = Path::new(&program).file_name().is_some_and(|name| name == NAME);
    let is_called = is_named || line.next().is_some_and(|word| word == WORD);
    is_called.then(|| line.collect())
}

/// Does it, in the foreground or not.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let wish = match Wish::try_parse_from(arguments) {
        Ok(wish) => wish,
        Err(error) => {
            // Nothing is left to do if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    if let Some(missing) = capabilities::missing().iter().find(|missing| missing.0 == Needed::NetAdmin) {
        return service::refuse(&missing.to_string());
    }
    let done = if wish.foreground || wish.awaited { serve(&wish) } else { send_away(arguments) };
    done.unwrap_or_else(|error| service::refuse(&explain(&error)))
}

/// Starts the program again and waits until it serves, or has said on standard error why it does not.
fn send_away(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut child = Command::new("/proc/self/exe")
        .arg0("warren-agent")
        .args([WORD, "--awaited"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the program cannot start itself")?;
    let mut said = Vec::new();
    if let Some(mut from) = child.stdout.take() {
        from.read_to_end(&mut said).context("the one in the background cannot be heard")?;
    }
    if said == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = child.wait().context("the one in the background cannot be awaited")?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Runs the device until somebody wants it to end.
fn serve(wish: &Wish) -> anyhow::Result<ExitCode> {
    if wish.awaited {
        // It is no leader of a group, since its parent did not make it one.
        unistd::setsid().context("no session of its own")?;
        std::env::set_current_dir("/").context("no root directory")?;
    }
    // The program was started by a link of /proc.
    nix::sys::prctl::set_name(c"warren-wg").context("no name")?;
    let level = wish.level(std::env::var("LOG_LEVEL").ok().as_deref());
    start_log(level)?;
    // Before the first thread: threads inherit mask and capabilities from who starts them.
    let mut ending = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|signal| ending.add(signal));
    ending.thread_block().context("signals cannot be caught")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let ending = SignalFd::with_flags(&ending, flags).context("signals cannot be caught")?;
    if let Err(error) = capabilities::give_up_all_but_needed() {
        tracing::warn!(%error, "the process keeps capabilities that it does not need");
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let config = Config {
        uapi_directory: Some(UAPI_DIRECTORY.into()),
        cipher: wish.crypto.cipher(),
        offload: !wish.no_offload,
        ..Config::default()
    };
    let device = Device::create(&wish.interface, config)?;
    let socket = Socket::watch(&wish.interface).context("the socket cannot be watched")?;
    if wish.awaited {
        report(keeps_standard_error(level)).context("nobody waits any more")?;
    }
    tracing::debug!(interface = wish.interface, cipher = %wish.crypto.cipher(), "serving");
    wait(&device, &socket, &ending)?;
    tracing::debug!(interface = wish.interface, "ending");
    Ok(ExitCode::SUCCESS)
}

/// Until there is a signal, no interface or no socket.
fn wait(device: &Device, socket: &Socket, ending: &SignalFd) -> anyhow::Result<()> {
    while socket.is_there() && !device.is_gone() {
        let mut events = [ending.as_fd(), device.gone(), socket.changes.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("events cannot be awaited"),
        }
        if ending.read_signal().context("signals cannot be read")?.is_some() {
            return Ok(());
        }
        match socket.changes.read_events() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error).context("the socket cannot be watched"),
        }
    }
    Ok(())
}

/// The socket's file, whose removal by anybody is a wish.
struct Socket {
    path: PathBuf,
    file: (u64, u64),
    changes: Inotify,
}

impl Socket {
    fn watch(interface: &str) -> io::Result<Self> {
        let path = Path::new(UAPI_DIRECTORY).join(format!("{interface}.sock"));
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let gone = AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        changes.add_watch(UAPI_DIRECTORY, gone)?;
        // What is removed from now on is seen; what was removed before is missed here.
        let file = identity(&path)?;
        Ok(Self { path, file, changes })
    }

    fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|file| file == self.file)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|file| (file.dev(), file.ino()))
}

/// Tells the one that waits, and lets go of its terminal.
fn report(keeps_standard_error: bool) -> io::Result<()> {
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    let nowhere = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdout(&nowhere)?;
    if !keeps_standard_error {
        unistd::dup2_stderr(&nowhere)?;
    }
    Ok(())
}

/// Whoever asks for more than errors wants to read them.
fn keeps_standard_error(level: Level) -> bool {
    level == Level::Verbose
}

fn start_log(level: Level) -> anyhow::Result<()> {
    let log_level = match level {
        Level::Silent => "off",
        Level::Verbose => "debug",
        Level::Error => "warn",
    };
    let settings = shell::log::Settings { log_format: shell::log::Format::Text, log_level: log_level.into() };
    shell::log::start(&settings, None).context("no log")
}

/// In one line, with what to do.
fn explain(error: &anyhow::Error) -> String {
    let errno = |source: &io::Error| source.raw_os_error().map(Errno::from_raw);
    match error.downcast_ref::<DeviceError>() {
        Some(DeviceError::Interface { name, source }) => match errno(source) {
            Some(Errno::EBUSY) => {
                format!(
                    "there is an interface {name} already: remove it with `ip link delete {name}`, or choose another name"
                )
            }
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => {
                "the machine has no /dev/net/tun: modprobe tun, or give the container --device /dev/net/tun"
                    .into()
            }
            Some(Errno::EPERM | Errno::EACCES) => {
                format!(
                    "interface {name} cannot be made: a process without CAP_NET_ADMIN in this network namespace, or without access to /dev/net/tun, may not; start as root"
                )
            }
            None if source.kind() == io::ErrorKind::InvalidInput => {
                format!(
                    "{name:?} is no name for an interface: 1 to 15 characters, no space, slash, percent or colon"
                )
            }
            _ => format!("{error:#}"),
        },
        Some(DeviceError::Uapi { path, source }) if source.kind() == io::ErrorKind::AddrInUse => {
            format!(
                "another process answers at {}: end it, or choose another name for the interface",
                path.display()
            )
        }
        _ => format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_command_is_called_by_its_word_or_by_the_name_of_the_program() {
        let called = |line| called(arguments(line).into_iter());
        assert_eq!(called("warren-agent wg -f wg0"), Some(arguments("-f wg0")));
        assert_eq!(called("/usr/local/bin/warren-wg wg0"), Some(arguments("wg0")));
        assert_eq!(called("warren-wg wg"), Some(arguments("wg")));
        assert_eq!(called("warren-agent wg"), Some(Vec::new()));
        assert_eq!(called("warren-agent --interface wg"), None);
        assert_eq!(called("warren-agent"), None);
    }

    #[test]
    fn settings_of_the_agent_are_not_known() {
        let parse = |line| Wish::try_parse_from(arguments(line));
        let wish = parse("-f --crypto reference --no-offload wg0").expect("a wish");
        assert!(wish.foreground && wish.no_offload && !wish.awaited);
        assert!(parse("wg0 --state-dir /tmp").is_err());
        assert!(parse("--crypto rot13 wg0").is_err());
    }

    #[test]
    fn a_level_that_is_none_is_refused_but_in_the_environment_of_all() {
        let level = |line, environment| {
            Wish::try_parse_from(arguments(line)).map(|wish| wish.level(environment)).ok()
        };
        assert_eq!(level("wg0", None), Some(Level::Error));
        assert_eq!(level("wg0", Some("verbose")), Some(Level::Verbose));
        assert_eq!(level("wg0", Some("info")), Some(Level::Error));
        assert_eq!(level("--log-level debug wg0", Some("silent")), Some(Level::Verbose));
        assert_eq!(level("--log-level foo wg0", None), None);
    }
}
