//! How a command ends when it does not succeed: an exit code, what happened, and the command that helps.

use std::process::ExitCode;

use model::api::Problem;
use model::{Code, Refusal};

use crate::output::Output;

/// Exit codes. Scripts depend on them: they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A bug of ours.
    Bug = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The server or the agent refused.
    Refused = 3,
    /// Nobody answers.
    Unreachable = 4,
    /// What was named does not exist.
    NotFound = 5,
    /// Not within the given time.
    TimedOut = 6,
    /// It answers, and says that something is wrong.
    Degraded = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    problem: Problem,
}

impl Failure {
    /// A failure of a kind that has no code on the server's side.
    pub fn new(exit: Exit, code: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let problem = Problem {
            code: code.into(),
            status: 0,
            detail: detail.into(),
            hint: hint.into(),
            request_id: String::new(),
        };
        Self { exit, problem }
    }

    /// A bug of ours.
    pub fn bug(detail: impl Into<String>) -> Self {
        Self::new(Exit::Bug, "internal", detail, "this is a bug: report it with the command line")
    }

    /// The command line is wrong in a way that only its meaning shows.
    pub fn usage(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", detail, hint)
    }

    /// What a program of this machine says of a file: it refused, whatever a server would answer with that.
    pub const fn of_offline(problem: Problem) -> Self {
        Self { exit: Exit::Refused, problem }
    }

    /// What happened.
    pub fn detail(&self) -> &str {
        &self.problem.detail
    }

    /// Whether the server refused for this reason.
    pub fn is(&self, code: Code) -> bool {
        self.problem.code == code.as_str()
    }

    /// Prints the failure on standard error, as JSON if that was asked for.
    pub fn report(&self, output: &Output) -> ExitCode {
        output.failure(&self.problem);
        self.exit.into()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let exit = match problem.status {
            404 => Exit::NotFound,
            500 => Exit::Bug,
            502 | 503 => Exit::Unreachable,
            504 => Exit::TimedOut,
            _ => Exit::Refused,
        };
        Self { exit, problem }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Problem::new(&refusal, "").into()
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Refusal::from(code).into()
    }
}

/// Lets clap print its own help and errors; help is no failure.
pub fn of_usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to do if the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_has_an_exit_code_of_its_own() {
        let exit = |code: Code| Failure::from(code).exit;
        for code in [
            Code::RoleNotFound,
            Code::RevocationUnknown,
            Code::DeviceNotFound,
            Code::TenantNotFound,
            Code::TokenNotFound,
            Code::RecordNotFound,
            Code::UserNotFound,
            Code::ApiTokenNotFound,
            Code::NotFound,
        ] {
            assert_eq!(exit(code), Exit::NotFound, "{code}");
        }
        assert_eq!(exit(Code::RotationBlocked), Exit::Refused);
        assert_eq!(exit(Code::SignerSealed), Exit::Unreachable);
        assert_eq!(exit(Code::ConnectionTimedOut), Exit::TimedOut);
        assert_eq!(exit(Code::Internal), Exit::Bug);
    }
}
