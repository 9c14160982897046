//! What drives a WireGuard interface, by its command line. The only place that knows how each program is started.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::places::folder;

/// A command line for our own engine that goes before every other; the interface's name is appended.
const OURS: &str = "WARREN_WG";

/// Something that drives a WireGuard interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    name: String,
    how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    /// Stays in the foreground; the interface's name is appended.
    Program { command: Vec<String>, environment: Vec<(&'static str, &'static str)> },
    /// `ip link add type wireguard`.
    Kernel,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl Engine {
    /// Warren's own: what `WARREN_WG` says, `warren-agent wg`, or the example of the crate `tunnel`.
    ///
    /// # Panics
    /// If none of them is there.
    pub fn ours() -> Self {
        Self::program("warren", our_command(), &[])
    }

    /// Warren's own with the slower cipher that it falls back on, if the program can be told so.
    pub fn ours_with_reference_cipher() -> Option<Self> {
        let mut command = our_command();
        help(&command)?.contains("--crypto").then(|| {
            command.extend(["--crypto", "reference"].map(str::to_owned));
            Self::program("warren reference", command, &[])
        })
    }

    /// Any program that takes the interface's name as its last argument and stays in the foreground.
    pub fn other(name: &str, command: &str) -> Self {
        Self::program(name, command.split_whitespace().map(str::to_owned).collect(), &[])
    }

    /// The kernel's.
    pub fn kernel() -> Self {
        Self { name: "kernel".into(), how: How::Kernel }
    }

    /// The engine of others with this name, if it is on the `PATH`.
    pub fn named(name: &str) -> Option<Self> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (command, environment): (Vec<String>, &[_]) = match name {
            "kernel" => return Some(Self::kernel()),
            "wireguard-go" | "wireguard-go-gso" => (words(&[name, "-f"]), &[("LOG_LEVEL", "error")]),
            "boringtun-cli" => (words(&[name, "--foreground", "--disable-drop-privileges"]), &[]),
            // Its crate is called gotatun-cli.
            "gotatun" => {
                (words(&[name, "--foreground", "--disable-drop-privileges", "--verbosity", "error"]), &[])
            }
            _ => return None,
        };
        on_path(name).then(|| Self::program(name, command, environment))
    }

    /// What it is called in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a peer that it has may be changed with `wg set`: boringtun 0.7 panics.
    pub(crate) fn changes_peers(&self) -> bool {
        self.name != "boringtun-cli"
    }

    /// How to start it in a namespace; `None` for the kernel, which is there.
    pub(crate) fn command(&self, namespace: &str, interface: &str) -> Option<Command> {
        let How::Program { command, environment } = &self.how else { return None };
        let mut start = Command::new("ip");
        start.args(["netns", "exec", namespace]).args(command).arg(interface);
        start.envs(environment.iter().copied());
        Some(start)
    }

    fn program(name: &str, command: Vec<String>, environment: &[(&'static str, &'static str)]) -> Self {
        Self { name: name.into(), how: How::Program { command, environment: environment.to_vec() } }
    }
}

fn our_command() -> Vec<String> {
    if let Ok(command) = std::env::var(OURS) {
        return command.split_whitespace().map(str::to_owned).collect();
    }
    let text = |path: &Path| path.to_str().expect("the tree's path is text").to_owned();
    let agent = vec![text(&folder().join("warren-agent")), "wg".to_owned()];
    if let Some(help) = help(&agent) {
        let foreground = help.contains("--foreground").then(|| "--foreground".to_owned());
        return agent.into_iter().chain(foreground).collect();
    }
    let example = folder().join("examples/wg_device");
    assert!(example.exists(), "{} is missing: `cargo build -p tunnel --examples` first", example.display());
    vec![text(&example)]
}

/// What the program says about itself; `None` if it does not know the question.
fn help(command: &[String]) -> Option<String> {
    // The example would take `--help` for an interface's name.
    if command[0].ends_with("wg_device") {
        return None;
    }
    let asked = Command::new(&command[0]).args(&command[1..]).arg("--help").stdin(Stdio::null()).output();
    asked.ok().filter(|said| said.status.success()).map(|said| String::from_utf8_lossy(&said.stdout).into())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder: PathBuf| folder.join(program)).any(|path| path.is_file())
}
