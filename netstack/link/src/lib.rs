//! Carriers of a link: framed bytes over QUIC, WebSocket over TLS, or a unix socket, and datagrams beside them over the
//! first two; and HTTPS for the command line.
//!
//! Knows frames as wholes and reads none of them: whom to trust, what to answer and when to dial again is decided by
//! the machines above. A client dials with [`dial`] or [`unix::dial`]; a server accepts with [`quic::Listener`],
//! [`websocket::upgrade`] or [`unix::sort`]; both get a [`Connection`].

mod address;
mod connection;
mod credentials;
mod datagrams;
mod dial;
mod error;
mod half;
pub mod https;
pub mod limits;
pub mod listening;
mod outgoing;
pub mod quic;
mod route;
mod served;
pub mod tls;
pub mod unix;
pub mod websocket;

pub use address::{BadServerAddress, ServerAddress};
pub use connection::{Carrier, Connection, Receiver, Sender};
pub use credentials::Credentials;
pub use datagrams::Datagrams;
pub use dial::{AttemptError, DialError, PreferCarrier, dial, dial_marked, dial_relay};
pub use error::{LinkError, TrySendError};
pub use route::Route;
pub use tls::Trust;
