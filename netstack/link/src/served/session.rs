//! TLS of connections that are served: as quinn-proto's own, except that what only the handshake needed goes with it.
//!
//! Half of what rustls keeps for a connection is of no use once the handshake is over: a QUIC connection has its keys from it,
//! the secrets for the next ones, and what binds the link. Kept ten thousand times, that is worth a type.

use std::any::Any;
use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::quic::{Connection, KeyChange, Secrets, ServerConnection, Version};

/// The version of QUIC that is spoken (RFC 9000, section 15).
pub(crate) const VERSION: u32 = 1;
/// TLS alert `unexpected_message` (RFC 8446, section 6).
const UNEXPECTED_MESSAGE: u8 = 10;

/// Begins sessions.
pub(crate) struct Sessions {
    tls: Arc<rustls::ServerConfig>,
    /// Keys of first packets.
    initial: Arc<QuicServerConfig>,
    /// Of what is exported for each connection.
    label: &'static [u8],
}

impl Sessions {
    pub(crate) fn new(tls: Arc<rustls::ServerConfig>, label: &'static [u8]) -> Self {
        let initial = QuicServerConfig::try_from(tls.clone());
        let initial = Arc::new(initial.expect("the ring provider has the initial cipher of QUIC"));
        Self { tls, initial, label }
    }
}

impl ServerConfig for Sessions {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        ServerConfig::initial_keys(&*self.initial, version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.initial.retry_tag(version, id, packet)
    }

    fn start_session(self: Arc<Self>, _: u32, parameters: &TransportParameters) -> Box<dyn crypto::Session> {
        let mut bytes = Vec::new();
        parameters.write(&mut bytes);
        let tls = ServerConnection::new(self.tls.clone(), Version::V1, bytes);
        let tls = tls.expect("the configuration was tried when it was made");
        Box::new(Session { sessions: self, next: None, stage: Stage::Handshake(Box::new(tls.into())) })
    }
}

struct Session {
    sessions: Arc<Sessions>,
    next: Option<Box<Secrets>>,
    stage: Stage,
}

enum Stage {
    Handshake(Box<Connection>),
    /// What was exported.
    Over(Option<[u8; 32]>),
}

impl Session {
    /// Keeps what is still of use.
    fn end_handshake(&mut self) {
        if let Stage::Handshake(tls) = &self.stage
            && !tls.is_handshaking()
        {
            let exported = tls.export_keying_material([0; 32], self.sessions.label, Some(&[]));
            self.stage = Stage::Over(exported.ok());
        }
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, id: &ConnectionId, _: Side) -> Keys {
        // Clients alone ask, after a retry.
        ServerConfig::initial_keys(&*self.sessions, VERSION, id).expect("the version is known")
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        matches!(&self.stage, Stage::Handshake(tls) if tls.is_handshaking())
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let broken = |code, reason| TransportError { code, frame: None, reason };
        let Stage::Handshake(tls) = &mut self.stage else {
            // A client has nothing more to say (RFC 9001, section 6).
            let code = TransportErrorCode::crypto(UNEXPECTED_MESSAGE);
            return Err(broken(code, "a TLS message after the handshake".into()));
        };
        tls.read_hs(bytes).map_err(|error| {
            let code = tls.alert().map(|alert| TransportErrorCode::crypto(alert.into()));
            broken(code.unwrap_or(TransportErrorCode::PROTOCOL_VIOLATION), error.to_string())
        })?;
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Stage::Handshake(tls) = &self.stage else { return Ok(None) };
        let parameters = tls.quic_transport_parameters();
        let read = parameters.map(|mut bytes| TransportParameters::read(Side::Server, &mut bytes));
        Ok(read.transpose()?)
    }

    fn write_handshake(&mut self, into: &mut Vec<u8>) -> Option<Keys> {
        let Stage::Handshake(tls) = &mut self.stage else { return None };
        let before = into.len();
        let keys = match tls.write_hs(into) {
            Some(KeyChange::Handshake { keys }) => keys,
            Some(KeyChange::OneRtt { keys, next }) => {
                self.next = Some(Box::new(next));
                keys
            }
            None => {
                if into.len() == before {
                    self.end_handshake();
                }
                return None;
            }
        };
        Some(Keys {
            header: KeyPair { local: Box::new(keys.local.header), remote: Box::new(keys.remote.header) },
            packet: KeyPair { local: Box::new(keys.local.packet), remote: Box::new(keys.remote.packet) },
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair { local: Box::new(keys.local), remote: Box::new(keys.remote) })
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        // Clients alone get them.
        false
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let is_ours = label == self.sessions.label && context.is_empty() && output.len() == 32;
        match &self.stage {
            Stage::Over(Some(exported)) if is_ours => output.copy_from_slice(exported),
            Stage::Handshake(tls) if is_ours => {
                let exported = tls.export_keying_material([0; 32], label, Some(context));
                output.copy_from_slice(&exported.map_err(|_| ExportKeyingMaterialError)?);
            }
            Stage::Over(_) | Stage::Handshake(_) => return Err(ExportKeyingMaterialError),
        }
        Ok(())
    }
}
