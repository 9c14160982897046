//! A program that runs in the background of a story. Knows signals, not what the program does.

use std::cell::RefCell;
use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::logs::Log;
use crate::wait::{SOON, until};

/// A running program. It is killed when the story ends.
#[derive(Debug)]
pub struct Process {
    child: RefCell<Child>,
    log: Log,
}

impl Process {
    pub(crate) fn start(mut command: Command, log: Log) -> Self {
        let file = File::create(&log.path).expect("the world's folder can be written");
        let also = file.try_clone().expect("a file can be held twice");
        let child = command
            .stdin(Stdio::null())
            .stdout(also)
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} cannot be started: {e}"));
        Self { child: RefCell::new(child), log }
    }

    pub(crate) const fn log(&self) -> &Log {
        &self.log
    }

    /// Everything that it has written so far.
    pub fn output(&self) -> String {
        self.log.text()
    }

    /// Its process id. Launchers replace themselves, so it is the program's own.
    pub fn id(&self) -> u32 {
        self.child.borrow().id()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.borrow_mut().try_wait().expect("a child of ours can be waited for")
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} is gone: no SIG{name}", self.log.program);
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child.borrow_mut();
        // It may be gone already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// SIGTERM: it must drain and exit with 0.
    ///
    /// # Panics
    /// If it takes longer than [`SOON`] or exits otherwise.
    pub fn stop(&self) -> Duration {
        self.signal("TERM");
        let (status, took) = until(SOON, || self.ended())
            .unwrap_or_else(|| panic!("{} did not end {SOON:?} after SIGTERM", self.log.program));
        assert!(status.success(), "{} ended with {status} after SIGTERM", self.log.program);
        took
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
