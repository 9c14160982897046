//! The link as the loop sees it: none, being dialled, or up. Decides neither when to dial nor whom to trust.

use std::fmt;
use std::path::PathBuf;

use engine::Input;
use link::{Connection, Datagrams, PreferCarrier, Receiver, Route, Sender, ServerAddress, Trust};
use model::wire::Frame;
use tokio::task::JoinHandle;

use crate::chain::chain;
use crate::drive::report::LinkReport;

/// Where a node's server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Over the network.
    Network {
        /// Host and port.
        address: ServerAddress,
        /// How its TLS is verified.
        trust: Trust,
        /// Over which carrier.
        prefer: PreferCarrier,
    },
    /// On this machine.
    Unix {
        /// The socket.
        path: PathBuf,
        /// Who must listen there, by user id: the hub's server side is checked as it checks the hub.
        owner: Option<u32>,
    },
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { address, .. } => address.fmt(f),
            Self::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

enum State {
    Down,
    Dialing(JoinHandle<Result<Connection, String>>),
    Up {
        sender: Sender,
        receiver: Receiver,
        report: LinkReport,
        datagrams: Option<Datagrams>,
        route: Option<Route>,
    },
}

/// The link.
pub(crate) struct Link {
    server: Option<Server>,
    /// Of its sockets.
    mark: Option<u32>,
    state: State,
}

impl Link {
    pub(crate) const fn new(server: Option<Server>, mark: Option<u32>) -> Self {
        Self { server, mark, state: State::Down }
    }

    pub(crate) const fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Another server from now on. Says whether that ended a link or an attempt.
    pub(crate) fn set_server(&mut self, server: Server) -> bool {
        if self.server.as_ref() == Some(&server) {
            return false;
        }
        self.server = Some(server);
        let ended = !matches!(self.state, State::Down);
        self.hang_up();
        ended
    }

    /// Begins to dial; [`Self::next`] says what came of it.
    pub(crate) fn dial(&mut self) {
        self.hang_up();
        self.state = State::Dialing(tokio::spawn(connect(self.server.clone(), self.mark)));
    }

    /// Ends whatever there is. What was queued is still written, in the background and in bounded time.
    pub(crate) fn hang_up(&mut self) {
        match std::mem::replace(&mut self.state, State::Down) {
            State::Down => {}
            State::Dialing(task) => task.abort(),
            State::Up { sender, receiver, .. } => {
                drop(receiver);
                tokio::spawn(async move {
                    // How a link ends that nobody wants any more concerns nobody.
                    let _ = sender.close(None).await;
                });
            }
        }
    }

    /// Queues a frame. A queue that is full, or a link that failed, ends the link: the text says why.
    pub(crate) fn send(&mut self, frame: &Frame) -> Result<(), String> {
        // The engine has not heard yet that the link is down; the frame is part of what it loses with it.
        let State::Up { sender, .. } = &self.state else { return Ok(()) };
        sender.try_send(frame).map_err(|error| {
            self.state = State::Down;
            chain(&error)
        })
    }

    /// The next thing that the engine must hear of the link. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Input {
        match &mut self.state {
            State::Down => std::future::pending().await,
            State::Dialing(task) => {
                let connected = task.await.unwrap_or_else(|error| Err(error.to_string()));
                self.connected(connected)
            }
            State::Up { receiver, .. } => match receiver.recv().await {
                Ok(frame) => Input::Received(frame),
                Err(error) => {
                    self.state = State::Down;
                    Input::LinkDown { reason: chain(&error) }
                }
            },
        }
    }

    fn connected(&mut self, connected: Result<Connection, String>) -> Input {
        match connected {
            Ok(connection) => {
                let report = LinkReport { carrier: connection.carrier(), remote: connection.remote() };
                let channel = connection.channel();
                let (datagrams, route) = (connection.datagrams(), connection.route());
                let (sender, receiver) = connection.split();
                self.state = State::Up { sender, receiver, report, datagrams, route };
                Input::LinkUp { channel }
            }
            Err(reason) => {
                self.state = State::Down;
                Input::LinkDown { reason }
            }
        }
    }

    /// The machine is elsewhere: drops a link over which nothing can go any more. Says why it did.
    pub(crate) fn moved(&mut self) -> Option<&'static str> {
        let State::Up { route: Some(route), .. } = &self.state else { return None };
        let dead = route.dead()?;
        self.hang_up();
        Some(dead)
    }

    /// The datagrams beside the frames of the link, if it is up and has them.
    pub(crate) fn datagrams(&self) -> Option<Datagrams> {
        match &self.state {
            State::Up { datagrams, .. } => datagrams.clone(),
            State::Down | State::Dialing(_) => None,
        }
    }

    pub(crate) const fn report(&self) -> Option<LinkReport> {
        match &self.state {
            State::Up { report, .. } => Some(*report),
            State::Down | State::Dialing(_) => None,
        }
    }
}

async fn connect(server: Option<Server>, mark: Option<u32>) -> Result<Connection, String> {
    match server {
        None => Err("no server is configured".into()),
        Some(Server::Network { address, trust, prefer }) => {
            link::dial_marked(&address, &trust, prefer, mark).await.map_err(|e| chain(&e))
        }
        Some(Server::Unix { path, owner }) => {
            let connection = link::unix::dial(&path).await.map_err(|e| format!("{}: {e}", path.display()))?;
            match (owner, connection.credentials()) {
                (Some(wanted), Some(found)) if found.uid != wanted && found.uid != 0 => {
                    Err(format!("{}: user {} listens there, not {wanted}", path.display(), found.uid))
                }
                (Some(_), None) => {
                    Err(format!("{}: the kernel does not say who listens there", path.display()))
                }
                _ => Ok(connection),
            }
        }
    }
}
