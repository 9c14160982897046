//! The system bus (D-Bus), for as long as one conversation takes. Starts no service, and knows none.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime;
use tokio::time::timeout;
use zbus::connection::Builder;
use zbus::{Connection, Type, as_variant};

/// Services answer in milliseconds; one that hangs must not hold the node.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// As long as the programs of other owners may take.
const CONVERSATION_TIME_MAX: Duration = Duration::from_secs(10);

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Why a service was not told or asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no bus, or it hung up.
    #[error("the system bus (D-Bus) is not there")]
    Unreachable(#[source] zbus::Error),
    /// A conversation took too long.
    #[error("{0} does not answer on the system bus")]
    Silent(&'static str),
    /// The service said no.
    #[error("{service} refuses {method}: {said}")]
    Refused {
        /// Which service.
        service: &'static str,
        /// What it was asked.
        method: String,
        /// The error's name, such as `org.freedesktop.DBus.Error.UnknownMethod`.
        name: String,
        /// Its words.
        said: String,
    },
    /// The service answered something else than its interface says.
    #[error("{service} answers {method} otherwise than it should")]
    Answer {
        /// Which service.
        service: &'static str,
        /// What it was asked.
        method: String,
        /// What is wrong with it.
        source: zbus::Error,
    },
}

impl BusError {
    /// Whether the service has no such method or property: it is older than them.
    pub(crate) fn is_unknown(&self) -> bool {
        let unknown = ["UnknownMethod", "UnknownProperty", "UnknownInterface"];
        matches!(self, Self::Refused { name, .. } if unknown.iter().any(|word| name.ends_with(word)))
    }

    /// Whether the service said no by this name, less what is before its last dot.
    pub(crate) fn is(&self, last: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.rsplit('.').next() == Some(last))
    }
}

/// Has one conversation, from a thread that may block. Must not be called in an asynchronous task.
pub(crate) fn converse<T>(talk: impl AsyncFnOnce(Connection) -> Result<T, BusError>) -> Result<T, BusError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| BusError::Unreachable(error.into()))?;
    runtime.block_on(bounded(async { talk(connect().await?).await }))
}

/// Ends a conversation that takes too long.
pub(crate) async fn bounded<T>(talk: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    timeout(CONVERSATION_TIME_MAX, talk).await.unwrap_or(Err(BusError::Silent("somebody")))
}

/// A connection of one's own.
pub(crate) async fn connect() -> Result<Connection, BusError> {
    let connecting = Builder::system().method_timeout(ANSWER_TIME_MAX).build();
    let connected = timeout(ANSWER_TIME_MAX, connecting).await;
    connected.map_err(|_| BusError::Silent("the bus"))?.map_err(BusError::Unreachable)
}

/// A service as it runs now: it is called by its connection's name, which starts nothing.
pub(crate) struct Service {
    connection: Connection,
    name: &'static str,
    owner: String,
}

impl Service {
    /// `None`: nobody has the name.
    pub(crate) async fn find(connection: &Connection, name: &'static str) -> Result<Option<Self>, BusError> {
        let asked = connection.call_method(Some(BUS), BUS_PATH, Some(BUS), "GetNameOwner", &(name,)).await;
        match asked.map_err(|error| refusal(name, "GetNameOwner", error)) {
            Ok(answer) => {
                let owner = answer.body().deserialize::<String>();
                let owner = owner.map_err(|source| BusError::Answer {
                    service: "the system bus",
                    method: "GetNameOwner".into(),
                    source,
                })?;
                Ok(Some(Self { connection: connection.clone(), name, owner }))
            }
            Err(error) if error.is("NameHasNoOwner") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Calls a method and reads its answer.
    pub(crate) async fn call<T: DeserializeOwned + Type>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl Serialize + Type),
    ) -> Result<T, BusError> {
        let asked = self.connection.call_method(Some(&*self.owner), path, Some(interface), method, body);
        let answer = asked.await.map_err(|error| refusal(self.name, method, error))?;
        answer.body().deserialize().map_err(|source| BusError::Answer {
            service: self.name,
            method: method.into(),
            source,
        })
    }

    /// Reads a property.
    pub(crate) async fn property<T: DeserializeOwned + Type>(
        &self,
        path: &str,
        interface: &str,
        property: &str,
    ) -> Result<T, BusError> {
        let asked = (interface, property);
        let asked = self.connection.call_method(Some(&*self.owner), path, Some(PROPERTIES), "Get", &asked);
        let answer = asked.await.map_err(|error| refusal(self.name, property, error))?;
        let body = answer.body();
        let value = body.deserialize::<as_variant::Deserialize<'_, T>>();
        value.map(|value| value.0).map_err(|source| BusError::Answer {
            service: self.name,
            method: property.into(),
            source,
        })
    }
}

fn refusal(service: &'static str, method: &str, error: zbus::Error) -> BusError {
    use zbus::DBusError as _;
    let refused = |name: String, said: Option<&str>| BusError::Refused {
        service,
        method: method.into(),
        said: said.unwrap_or(&name).to_owned(),
        name,
    };
    match error {
        zbus::Error::MethodError(name, said, _) => refused(name.to_string(), said.as_deref()),
        zbus::Error::FDO(error) => match *error {
            zbus::fdo::Error::ZBus(error) => BusError::Unreachable(error),
            error => refused(error.name().to_string(), error.description()),
        },
        zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            BusError::Silent(service)
        }
        error => BusError::Unreachable(error),
    }
}
