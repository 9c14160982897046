//! One machine of the world, and commands on it.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::wait::until;

/// A machine to run commands on.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    launcher: Vec<String>,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Done {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Node {
    pub(crate) fn new(name: &str, launcher: Vec<String>) -> Self {
        Self { name: name.into(), launcher }
    }

    /// A command on this node that is not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.launcher[0]);
        command.args(&self.launcher[1..]).args(args);
        command
    }

    /// Runs a command to its end, however it ends.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(&self, args: &[&str]) -> Done {
        let output = self.command(args).output().expect("launchers can be started");
        Done {
            command: format!("{}: {}", self.name, args.join(" ")),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed and gives its output.
    ///
    /// # Panics
    /// If it does not.
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// Runs `warren … --json`, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub fn json(&self, args: &[&str]) -> Value {
        self.run(&[args, &["--json"]].concat()).ok_json()
    }

    /// Whether the command succeeds.
    pub fn succeeds(&self, args: &[&str]) -> bool {
        self.run(args).code == 0
    }

    /// Repeats a command until its output is right, and gives the time that it took.
    ///
    /// # Panics
    /// With the last output if it is not right before the deadline.
    pub fn wait(
        &self,
        what: &str,
        deadline: Duration,
        args: &[&str],
        right: impl Fn(&Done) -> bool,
    ) -> Duration {
        let mut last = None;
        let found = until(deadline, || {
            let done = self.run(args);
            let good = right(&done).then_some(());
            last = Some(done);
            good
        });
        match found {
            Some(((), took)) => took,
            None => panic!(
                "waited {deadline:?} in vain for: {what}\n{}",
                last.map_or_else(String::new, |d| d.tell())
            ),
        }
    }

    /// Repeats `ping` until the target answers.
    ///
    /// # Panics
    /// If it does not before the deadline.
    pub fn reaches(&self, target: &str, deadline: Duration) -> Duration {
        let what = format!("{} reaches {target}", self.name);
        self.wait(&what, deadline, &["ping", "-q", "-c1", "-W1", target], |done| done.code == 0)
    }

    /// What `dig +short` says, asked at a server or at the node's own resolver, five times if nobody answers.
    pub fn dig(&self, server: Option<&str>, name: &str, kind: &str) -> String {
        let at = server.map(|server| format!("@{server}"));
        let mut args = vec!["dig", "+short", "+search", "+time=1", "+tries=5"];
        args.extend(at.as_deref());
        args.extend([name, kind]);
        self.run(&args).out.trim().to_owned()
    }
}

impl Done {
    /// The output of a command that succeeded.
    ///
    /// # Panics
    /// If it did not.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.tell());
        self.out
    }

    /// The JSON of a command that succeeded.
    ///
    /// # Panics
    /// If it did not, or printed something else.
    pub fn ok_json(self) -> Value {
        let told = self.tell();
        serde_json::from_str(&self.ok()).unwrap_or_else(|e| panic!("no JSON: {e}\n{told}"))
    }

    /// For messages.
    pub fn tell(&self) -> String {
        format!("`{}` ended with {}\n{}{}", self.command, self.code, self.out, self.err)
    }
}
