//! The thread on which a node's [`Seats`] work: one task after the other, answers in that order, and a glance now and
//! then at what gives no event: it tells when that differs from the last look or the last glance. Chooses no task.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine::{Change, Observed, Seat};
use model::PublicKey;
use tokio::sync::{mpsc, oneshot};

use crate::chain::chain;
use crate::host::{HostConfig, HostError, HostReport};
use crate::paths::Road;
use crate::seats::Seats;
use crate::wireguard::PeerState;

/// Tasks waiting at most. The engine is asked for no more until there is room.
pub(crate) const TASKS_MAX: usize = 256;
/// Drift of peers (`wg set`), switches and the resolver is to be repaired within 2 s, and they give no event.
const GLANCE_INTERVAL: Duration = Duration::from_secs(1);
/// A glance should cost no more than one fiftieth of the time: with 10 000 peers it comes less often...
const GLANCE_SHARE: u32 = 50;
/// ... but often enough to keep that promise.
const GLANCE_INTERVAL_MAX: Duration = Duration::from_millis(1500);

pub(crate) enum Task {
    Observe(Seat),
    Apply(Seat, Change),
    /// Names are answered at these addresses now.
    Serve(BTreeSet<IpAddr>),
    Peers(oneshot::Sender<Result<BTreeMap<PublicKey, PeerState>, String>>),
    /// The last: leave the host as it should be without this process.
    Leave,
}

pub(crate) enum Answer {
    Observed(Seat, Result<Observed, String>, HostReport),
    /// With what is in use, if the change may have decided it.
    Applied(Seat, Change, Result<(), String>, Option<HostReport>),
    /// The resolver was told where names are answered, or could not be: another look says which.
    Served,
    /// A glance saw something else than before.
    Changed,
    Left(Result<(), String>),
}

/// Where tasks go in and answers come out.
pub(crate) struct Hands {
    tasks: std_mpsc::SyncSender<Task>,
    answers: mpsc::Receiver<Answer>,
    outstanding: usize,
    thread: JoinHandle<()>,
}

/// What there was when the hands began.
pub(crate) struct Opened {
    pub(crate) report: HostReport,
    /// The ports of interfaces beside the shared one.
    pub(crate) found: BTreeSet<u16>,
}

/// Why there are no hands.
#[derive(Debug, thiserror::Error)]
pub enum HandsError {
    /// No thread.
    #[error("thread")]
    Thread(#[source] io::Error),
    /// The host refused.
    #[error("host")]
    Host(#[source] HostError),
}

impl Hands {
    /// Starts the thread in the network namespace of this one, and opens the host on it, with the road on which its own
    /// device is put.
    pub(crate) async fn start(config: HostConfig, road: Road) -> Result<(Self, Opened), HandsError> {
        let (tasks, todo) = std_mpsc::sync_channel(TASKS_MAX);
        let (done, answers) = mpsc::channel(TASKS_MAX + 2);
        let (opened, opening) = oneshot::channel();
        let work = move || match Seats::open(config, road).and_then(|seats| Ok((seats.found()?, seats))) {
            Ok((found, mut seats)) => {
                // Before any change: names are answered nowhere yet, and nobody was told so far.
                let _ = seats.serve(BTreeSet::new());
                let _ = opened.send(Ok(Opened { report: seats.report(), found }));
                run(&mut seats, &todo, &done);
            }
            Err(error) => drop(opened.send(Err(HandsError::Host(error)))),
        };
        let thread = thread::Builder::new().name("hands".into()).spawn(work).map_err(HandsError::Thread)?;
        let opened = opening.await.map_err(|_| HandsError::Thread(io::Error::other("it panicked")))??;
        Ok((Self { tasks, answers, outstanding: 0, thread }, opened))
    }

    /// Whether another task finds room.
    pub(crate) const fn has_room(&self) -> bool {
        self.outstanding < TASKS_MAX
    }

    /// Hands over a task. Call only while there is room; a thread that died answers nothing more.
    pub(crate) fn give(&mut self, task: Task) {
        let counts = !matches!(task, Task::Peers(_));
        if self.tasks.try_send(task).is_ok() && counts {
            self.outstanding += 1;
        }
    }

    /// The next answer; `None` if the thread died.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.recv().await?;
        if !matches!(answer, Answer::Changed) {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        Some(answer)
    }

    /// Ends the thread; waits until it has.
    pub(crate) async fn end(self) {
        drop(self.tasks);
        drop(self.answers);
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

fn run(seats: &mut Seats, todo: &std_mpsc::Receiver<Task>, done: &mpsc::Sender<Answer>) {
    let mut seen = None;
    let mut glance_at = Instant::now() + GLANCE_INTERVAL;
    loop {
        let answer = match todo.recv_timeout(glance_at.saturating_duration_since(Instant::now())) {
            Ok(task) => {
                if matches!(task, Task::Observe(_)) {
                    // Before it, so that what changes in between is seen as changed.
                    seen = Some(seats.glance());
                }
                work(seats, task)
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) => {
                let began = Instant::now();
                let now = seats.glance();
                let changed = seen.replace(now).is_some_and(|before| before != now);
                let interval = began.elapsed() * GLANCE_SHARE;
                glance_at = Instant::now() + interval.clamp(GLANCE_INTERVAL, GLANCE_INTERVAL_MAX);
                changed.then_some(Answer::Changed)
            }
            Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
        };
        if let Some(answer) = answer
            && done.blocking_send(answer).is_err()
        {
            return;
        }
    }
}

fn work(seats: &mut Seats, task: Task) -> Option<Answer> {
    let text = |error: HostError| chain(&error);
    Some(match task {
        Task::Observe(seat) => {
            let observed = seats.observe(seat).map_err(text);
            Answer::Observed(seat, observed, seats.report())
        }
        Task::Apply(seat, change) => {
            let result = seats.apply(seat, &change).map_err(text);
            let decides =
                matches!(change, Change::CreateInterface | Change::SetResolver(_) | Change::ClearResolver);
            Answer::Applied(seat, change, result, decides.then(|| seats.report()))
        }
        Task::Serve(served) => {
            if let Err(error) = seats.serve(served) {
                let reason = chain(&error);
                tracing::debug!(reason, "the machine's resolver was not told where names are answered");
            }
            Answer::Served
        }
        Task::Peers(asked) => {
            // Whoever asked may have gone away.
            let _ = asked.send(seats.peers().map_err(text));
            return None;
        }
        Task::Leave => Answer::Left(seats.leave().map_err(text)),
    })
}
