//! A node without hands: the real engine over a real link with a real ledger, on a host that is a model. Says when it
//! serves names and when it told the server that it holds them.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::{Input, Ledger, NamesUpdate, Node, NodeConfig, Observed, Output};
use host::files::{self, SECRET};
use link::{Connection, PreferCarrier, Receiver, Sender, ServerAddress, Trust};
use model::wire::{Frame, encode};
use model::{Generation, Mono, Name, Now, PublicKey, Timestamp, Zone};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

/// Where a node finds its server.
#[derive(Debug, Clone)]
pub enum Server {
    /// Over QUIC.
    Network(ServerAddress),
    /// On this machine.
    Unix(PathBuf),
}

/// What a node says to whoever measures.
#[derive(Debug)]
pub struct News {
    /// Which node.
    pub agent: usize,
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What happened at a node.
#[derive(Debug)]
pub enum What {
    /// Magic DNS would answer with these names, new or gone, from now on.
    Serves {
        /// The serial of the zone.
        generation: Generation,
        /// Names that were touched; none for a whole zone.
        names: Vec<Name>,
    },
    /// The ledger is on disk, no change is left to make, and the server is told.
    Holds(Generation),
    /// A patch came, of so many bytes with its frame.
    Patched(usize),
}

/// A running node.
pub struct Agent {
    number: usize,
    node: Node,
    own: PublicKey,
    server: Server,
    ledger: PathBuf,
    origin: Instant,
    host: Observed,
    zone: Option<Zone>,
    link: Option<(Sender, Receiver)>,
    dialing: Option<JoinHandle<Result<Connection, String>>>,
    writing: Option<JoinHandle<Result<(), String>>>,
    news: mpsc::Sender<News>,
}

impl Agent {
    /// A node that remembers nothing. `first` is what it is told first.
    pub fn new(
        number: usize,
        config: NodeConfig,
        server: Server,
        ledger: PathBuf,
        first: Option<Input>,
        news: mpsc::Sender<News>,
    ) -> Self {
        let own = config.wireguard.public();
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let mut agent = Self {
            number,
            node: Node::new(config, Ledger::new(), seed),
            own,
            server,
            ledger,
            origin: Instant::now(),
            host: Observed::default(),
            zone: None,
            link: None,
            dialing: None,
            writing: None,
            news,
        };
        if let Some(input) = first {
            agent.tell(input);
        }
        agent
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        loop {
            while let Some(output) = self.node.poll_output() {
                self.carry_out(output);
            }
            let due = self.node.poll_timeout();
            let wake = due.map(|due| self.origin + Duration::from_micros(due.at.as_micros()));
            let input = tokio::select! {
                frame = received(&mut self.link) => Some(self.took(frame)),
                connected = finished(&mut self.dialing) => Some(self.connected(connected)),
                written = finished(&mut self.writing) => Some(Input::Persisted(written)),
                () = wait_until(wake) => None,
            };
            match input {
                Some(input) => self.tell(input),
                None => self.node.handle_timeout(self.now()),
            }
        }
    }

    fn tell(&mut self, input: Input) {
        self.node.handle(input, self.now());
    }

    fn now(&self) -> Now {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let wall = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Now {
            mono: Mono::from_micros(micros(self.origin.elapsed())),
            wall: Timestamp::from_unix_micros(i64::try_from(wall).unwrap_or(i64::MAX)),
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial => self.dialing = Some(tokio::spawn(dial(self.server.clone()))),
            Output::Hangup => {
                (self.link, self.dialing) = (None, None);
                self.tell(Input::LinkDown { reason: "hung up".into() });
            }
            Output::Send(frame) => self.send(&frame),
            Output::Persist(bytes) => {
                let path = self.ledger.clone();
                let write = move || files::replace(&path, &bytes, SECRET).map_err(|e| e.to_string());
                self.writing = Some(tokio::task::spawn_blocking(write));
            }
            Output::Observe(seat) => self.tell(Input::Observed(seat, Ok(self.host.clone()))),
            Output::Apply(seat, change) => {
                self.host.apply(&change, &self.own);
                self.tell(Input::Applied { seat, change, result: Ok(()) });
            }
            Output::Names(update) => self.serve(update),
            Output::Resolve(endpoint) => self.tell(Input::Resolved { endpoint, address: None }),
            // It has no data plane: the server's work is measured.
            Output::Path(_) | Output::Ssh(_) | Output::Seal { .. } | Output::Event(_) => {}
        }
    }

    fn send(&mut self, frame: &Frame) {
        let Some((sender, _)) = &self.link else { return };
        if let Err(error) = sender.try_send(frame) {
            self.link = None;
            return self.tell(Input::LinkDown { reason: error.to_string() });
        }
        if let Frame::Holding(holding) = frame
            && holding.settled
        {
            self.say(What::Holds(holding.held.version.generation));
        }
    }

    fn serve(&mut self, update: NamesUpdate) {
        match update {
            NamesUpdate::Whole { generation, zone, .. } => {
                self.zone = Some(zone);
                self.say(What::Serves { generation, names: Vec::new() });
            }
            NamesUpdate::Patch { generation, patch, .. } => {
                let set = patch.set.iter().map(|(name, _)| name);
                let names = set.chain(&patch.gone).cloned().collect();
                if let Some(zone) = &mut self.zone {
                    patch.apply(zone);
                }
                self.say(What::Serves { generation, names });
            }
            NamesUpdate::Gone { .. } => self.zone = None,
        }
    }

    fn say(&self, what: What) {
        let news = News { agent: self.number, at: Instant::now(), what };
        self.news.try_send(news).expect("whoever measures reads along");
    }

    fn took(&mut self, frame: Result<Frame, String>) -> Input {
        match frame {
            Ok(frame) => {
                // One node is enough: all are sent the same but for the stamp.
                if self.number == 0 && matches!(frame, Frame::Patched(_)) {
                    self.say(What::Patched(encode(&frame).len()));
                }
                Input::Received(frame)
            }
            Err(reason) => {
                self.link = None;
                Input::LinkDown { reason }
            }
        }
    }

    fn connected(&mut self, connected: Result<Connection, String>) -> Input {
        match connected {
            Ok(connection) => {
                let channel = connection.channel();
                self.link = Some(connection.split());
                Input::LinkUp { channel }
            }
            Err(reason) => Input::LinkDown { reason },
        }
    }
}

async fn dial(server: Server) -> Result<Connection, String> {
    match server {
        Server::Network(address) => {
            link::dial(&address, &Trust::Anchor, PreferCarrier::OnlyQuic).await.map_err(|e| e.to_string())
        }
        Server::Unix(path) => link::unix::dial(&path).await.map_err(|e| e.to_string()),
    }
}

async fn received(link: &mut Option<(Sender, Receiver)>) -> Result<Frame, String> {
    match link {
        Some((_, receiver)) => receiver.recv().await.map_err(|e| e.to_string()),
        None => std::future::pending().await,
    }
}

/// The outcome of a task, once there is one. Cancel-safe.
async fn finished<T>(task: &mut Option<JoinHandle<Result<T, String>>>) -> Result<T, String> {
    let Some(running) = task else { return std::future::pending().await };
    let outcome = running.await.unwrap_or_else(|error| Err(error.to_string()));
    *task = None;
    outcome
}

async fn wait_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
