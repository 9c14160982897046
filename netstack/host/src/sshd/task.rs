//! The task that keeps sshd as the engine says: installs, looks again now and then, and asks for certificates in time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{SshInput, SshOutput, SshState};
use model::Timestamp;
use model::wire::HostCertified;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::install::{self, InstallError, Installed, Left};
use super::logins::follow;
use super::programs::Programs;
use super::renewal::wanted_at;
use super::{SshLog, SshMode, SshdReport, SshdSetup};
use crate::chain::chain;

/// What somebody else changed is mended within this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// What failed is tried again sooner, each time after twice as long: a try may cost sshd a reload.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(300);
/// A certificate that was asked for and did not come is asked for again, up to twice as late: a server that gives out
/// too many at once is not asked by all together.
const ASK_INTERVAL: Duration = Duration::from_secs(30);
/// Words and answers that wait: the loop takes them at once.
const WAITING_MAX: usize = 8;

/// What the engine said last. `None`: nothing yet, so nothing is touched.
type Told = Option<Option<Arc<SshState>>>;

/// What became of an installation.
enum Done {
    Installed(Installed),
    /// It failed, and sshd goes by what is in place as long as it runs.
    Left(Left, String),
    /// Nothing of the mesh is there, and why, unless that is as it should be.
    Nothing(Option<String>),
}

impl Done {
    fn failed(left: Option<Left>, problem: String) -> Self {
        match left {
            Some(left) => Self::Left(left, problem),
            None => Self::Nothing(Some(problem)),
        }
    }
}

/// The task, from the loop's side.
pub struct SshdTask {
    states: watch::Sender<Told>,
    answers: mpsc::Sender<HostCertified>,
    said: mpsc::Receiver<SshInput>,
    reports: watch::Receiver<SshdReport>,
    tasks: [JoinHandle<()>; 2],
}

impl SshdTask {
    /// Keeps sshd from now on. `seed` spreads renewals.
    pub fn start(setup: SshdSetup, seed: &[u8; 32]) -> Self {
        let (states, told) = watch::channel(None);
        let (answers, answered) = mpsc::channel(WAITING_MAX);
        let (says, said) = mpsc::channel(WAITING_MAX);
        let (published, reports) = watch::channel(SshdReport::default());
        let jitter = f64::from(seed[0]) / f64::from(u8::MAX);
        let logins = tokio::spawn(follow_when_kept(setup.log.clone(), says.clone(), reports.clone()));
        let keeper = Keeper {
            setup,
            jitter,
            fresh: None,
            asked_at: None,
            retry: RETRY_INTERVAL,
            plain_until: None,
            last: None,
            says,
            published,
        };
        let keeping = tokio::spawn(keeper.run(told, answered));
        Self { states, answers, said, reports, tasks: [keeping, logins] }
    }

    /// Hands over what the engine says. Of states the last one counts.
    pub fn give(&self, output: SshOutput) {
        match output {
            SshOutput::State(state) => drop(self.states.send_replace(Some(state.map(|s| Arc::new(*s))))),
            // One that is lost is asked for again.
            SshOutput::Certified(answer) => drop(self.answers.try_send(answer)),
        }
    }

    /// What is to be said to the engine. Cancel-safe.
    pub async fn next(&mut self) -> SshInput {
        match self.said.recv().await {
            Some(input) => input,
            None => std::future::pending().await,
        }
    }

    /// How sshd is.
    pub fn report(&self) -> SshdReport {
        self.reports.borrow().clone()
    }
}

impl Drop for SshdTask {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Whom sshd lets in is of interest once it takes certificates of the mesh.
async fn follow_when_kept(
    log: SshLog,
    says: mpsc::Sender<SshInput>,
    mut reports: watch::Receiver<SshdReport>,
) {
    if reports.wait_for(|report| report.kept).await.is_ok() {
        follow(log, says).await;
    }
}

struct Keeper {
    setup: SshdSetup,
    jitter: f64,
    /// A certificate that came and is not installed yet.
    fresh: Option<String>,
    asked_at: Option<Instant>,
    /// How soon what fails now is tried again.
    retry: Duration,
    /// Until then sshd is not told of a certificate that it did not show.
    plain_until: Option<Instant>,
    /// What was said of the installation last.
    last: Option<SshInput>,
    says: mpsc::Sender<SshInput>,
    published: watch::Sender<SshdReport>,
}

impl Keeper {
    async fn run(mut self, mut told: watch::Receiver<Told>, mut answers: mpsc::Receiver<HostCertified>) {
        loop {
            let state = told.borrow_and_update().clone();
            let wait = match &state {
                None => LOOK_INTERVAL,
                Some(None) => self.let_go().await,
                Some(Some(state)) => self.keep(state).await,
            };
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                answer = answers.recv() => match answer {
                    Some(answer) => self.take(answer),
                    None => return,
                },
                () = sleep(wait) => {}
            }
        }
    }

    fn take(&mut self, answer: HostCertified) {
        match answer.certificate {
            Some(line) => (self.fresh, self.asked_at) = (Some(line), None),
            None => {
                let refusal = answer.refusal.map(|refusal| refusal.to_string()).unwrap_or_default();
                tracing::info!(refusal, "no host certificate yet");
            }
        }
    }

    /// Nothing is to be installed.
    async fn let_go(&mut self) -> Duration {
        let config = self.setup.config.clone();
        let work = spawn_blocking(move || {
            let left = || Programs::find(&config).as_ref().and_then(install::left);
            super::remove(&config).err().map(|error| Done::failed(left(), error))
        });
        let done = work.await.unwrap_or_else(|error| Some(Done::Nothing(Some(error.to_string()))));
        self.say(done.unwrap_or(Done::Nothing(None))).await
    }

    async fn keep(&mut self, state: &Arc<SshState>) -> Duration {
        // Who may not write there has not asked for it either.
        let is_ours = self.setup.mode == SshMode::On || nix::unistd::geteuid().is_root();
        if self.setup.mode == SshMode::Off || !is_ours {
            return self.let_go().await;
        }
        let (config, state, fresh) = (self.setup.config.clone(), Arc::clone(state), self.fresh.take());
        let tries = self.plain_until.is_none_or(|until| until <= Instant::now());
        let work = {
            let state = Arc::clone(&state);
            spawn_blocking(move || {
                let programs = Programs::find(&config)?;
                let done = install::install(&programs, &state, fresh.as_deref(), tries, wall());
                Some(done.map_err(|error| (install::left(&programs), error)))
            })
        };
        let done: Option<Result<Installed, (Option<Left>, InstallError)>> = work.await.unwrap_or(None);
        let installed = match done {
            Some(Ok(installed)) => installed,
            Some(Err((left, error))) => return self.say(Done::failed(left, chain(&error))).await,
            None => {
                let config = self.setup.config.display();
                let missing = format!("no sshd whose {config} includes a directory of drop-ins");
                return self.say(Done::Nothing((self.setup.mode == SshMode::On).then_some(missing))).await;
            }
        };
        let due = wanted_at(installed.held.as_ref(), &installed.key, &state, self.jitter);
        let key = installed.key.clone();
        let is_whole = installed.problem.is_none();
        let wait = self.say(Done::Installed(installed)).await;
        match (is_whole, tries) {
            (true, _) => self.plain_until = None,
            (false, true) => self.plain_until = Some(Instant::now() + wait),
            (false, false) => {}
        }
        let wait = self.plain_until.map_or(wait, |until| until.saturating_duration_since(Instant::now()));
        if due.is_some_and(|due| due <= wall()) {
            let spread = ASK_INTERVAL.mul_f64(self.jitter);
            if self.asked_at.is_none_or(|at| at.elapsed() >= ASK_INTERVAL + spread) {
                self.asked_at = Some(Instant::now());
                // The loop ends before its task does.
                let _ = self.says.send(SshInput::Certify(key)).await;
            }
            return ASK_INTERVAL + spread;
        }
        wait
    }

    /// Says what became of it, if that is news, and how soon it is looked at again.
    async fn say(&mut self, done: Done) -> Duration {
        let report = match done {
            Done::Installed(installed) => SshdReport {
                kept: true,
                people: installed.people,
                presents: installed.shown.as_ref().map(|certificate| certificate.signer),
                certificate_until: installed.shown.as_ref().map(|c| c.valid_until),
                problem: installed.problem.as_ref().map(|problem| chain(problem)),
            },
            Done::Left(Left { people, presents }, problem) => {
                SshdReport { kept: true, people, presents, problem: Some(problem), ..SshdReport::default() }
            }
            Done::Nothing(problem) => SshdReport { problem, ..SshdReport::default() },
        };
        let input = SshInput::Installed {
            people: report.kept.then(|| report.people.clone()),
            presents: report.presents,
            problem: report.problem.clone(),
        };
        let (wait, next) = match report.problem {
            Some(_) => (self.retry, (self.retry * 2).min(RETRY_INTERVAL_MAX)),
            None => (LOOK_INTERVAL, RETRY_INTERVAL),
        };
        self.retry = next;
        if let Some(reason) = &report.problem
            && self.published.borrow().problem != report.problem
        {
            tracing::warn!(code = "sshd-not-kept", reason, "this machine's sshd is not as the mesh wants it");
        }
        self.published.send_replace(report);
        if self.last.as_ref() != Some(&input) {
            self.last = Some(input.clone());
            let _ = self.says.send(input).await;
        }
        wait
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
