//! What the rest of the program says to a running node, and what it sees of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::token::OnboardingToken;
use model::wire::Remark;
use model::{PublicKey, SshTrust, Version, Zone};
use tokio::sync::{mpsc, oneshot, watch};

use crate::drive::carrier::Server;
use crate::drive::lookup::Lookup;
use crate::drive::report::{Publisher, Report};
use crate::wireguard::PeerState;

/// Commands that wait at most. They are taken at once; whoever sends more waits.
const COMMANDS_MAX: usize = 32;

pub(crate) enum Command {
    Join { token: Box<OnboardingToken>, hostname: Remark, os: Remark },
    Up,
    Down,
    Look,
    Server(Server),
    Peers(oneshot::Sender<Result<BTreeMap<PublicKey, PeerState>, String>>),
    Zones(oneshot::Sender<Vec<Zone>>),
    SshTrust(oneshot::Sender<Option<(Version, SshTrust)>>),
    Names(oneshot::Sender<Arc<dns::serve::Counters>>),
    Lookup(oneshot::Sender<Lookup>),
    Report(oneshot::Sender<Arc<Report>>),
}

/// Tokens are in it, so it prints nothing.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

/// The node has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Gone;

/// A way to speak to a node. When [`Self::stop`] was called, or all of them are dropped, the node stops.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    reports: watch::Receiver<Option<Arc<Report>>>,
    stop: watch::Sender<bool>,
}

/// The node's end, for [`crate::drive()`].
#[derive(Debug)]
pub struct Commands {
    commands: mpsc::Receiver<Command>,
    reports: watch::Sender<Option<Arc<Report>>>,
    stop: watch::Receiver<bool>,
}

/// A handle and the node's end of it.
pub fn channel() -> (Handle, Commands) {
    let (commands, taken) = mpsc::channel(COMMANDS_MAX);
    let (published, reports) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);
    (Handle { commands, reports, stop }, Commands { commands: taken, reports: published, stop: stopped })
}

impl Handle {
    /// Become a device: kept over restarts until the server says yes, or no for good.
    pub async fn join(&self, token: OnboardingToken, hostname: Remark, os: Remark) -> Result<(), Gone> {
        self.send(Command::Join { token: Box::new(token), hostname, os }).await
    }

    /// Take part in the mesh.
    pub async fn up(&self) -> Result<(), Gone> {
        self.send(Command::Up).await
    }

    /// Leave the mesh, keep the identity.
    pub async fn down(&self) -> Result<(), Gone> {
        self.send(Command::Down).await
    }

    /// Look at the host again.
    pub async fn look(&self) -> Result<(), Gone> {
        self.send(Command::Look).await
    }

    /// Use this server from now on.
    pub async fn server(&self, server: Server) -> Result<(), Gone> {
        self.send(Command::Server(server)).await
    }

    /// The peers of the interface with what is volatile. The inner error is the host's.
    pub async fn peers(&self) -> Result<Result<BTreeMap<PublicKey, PeerState>, String>, Gone> {
        let (asked, answer) = oneshot::channel();
        self.send(Command::Peers(asked)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// The zones that the node holds, one for each tenant. A copy: for people, not for loops.
    pub async fn zones(&self) -> Result<Vec<Zone>, Gone> {
        let (asked, answer) = oneshot::channel();
        self.send(Command::Zones(asked)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// What the node holds of SSH, and at which version. A copy: for people, not for loops.
    pub async fn ssh_trust(&self) -> Result<Option<(Version, SshTrust)>, Gone> {
        let (asked, answer) = oneshot::channel();
        self.send(Command::SshTrust(asked)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// What Magic DNS has answered; goes on counting.
    pub async fn names(&self) -> Result<Arc<dns::serve::Counters>, Gone> {
        let (asked, answer) = oneshot::channel();
        self.send(Command::Names(asked)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// What answers names, to be asked why.
    pub async fn lookup(&self) -> Result<Lookup, Gone> {
        let (asked, answer) = oneshot::channel();
        self.send(Command::Lookup(asked)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// The node as it is now, after every command sent before.
    pub async fn report(&self) -> Result<Arc<Report>, Gone> {
        let (asked, answer) = oneshot::channel();
        self.send(Command::Report(asked)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// The node as it was a moment ago, at each change anew; `None` before its first.
    pub fn reports(&self) -> watch::Receiver<Option<Arc<Report>>> {
        self.reports.clone()
    }

    /// Leave the host as it should be without this program, and end.
    pub fn stop(&self) {
        // The node may have ended already.
        let _ = self.stop.send(true);
    }

    async fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).await.map_err(|_| Gone)
    }
}

impl Commands {
    /// The next command; `None` when the node is to stop. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Command> {
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => None,
            command = self.commands.recv() => command,
        }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(self.reports.clone())
    }
}
