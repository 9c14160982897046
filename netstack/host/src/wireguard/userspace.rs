//! Our own engine in this process, with the socket that `wg` reads. Ends with the process.

use std::io;
use std::path::PathBuf;

use engine::PeerSetting;
use model::{PrivateKey, PublicKey};
use stack::Stack;
use tunnel::{ApplyError, Config, Device, PeerUpdate, Update};

use crate::interface::InterfaceName;
use crate::links::MARK;
use crate::paths::Road;
use crate::wireguard::{Backend, DeviceState, PeerState, Tuning, Wireguard, WireguardError};

/// Our own engine.
pub(crate) struct Userspace {
    interface: InterfaceName,
    uapi_directory: Option<PathBuf>,
    /// Where packets go instead of to an interface.
    stack: Option<Stack>,
    tuning: Tuning,
    /// Where the device is.
    road: Road,
    /// The port of the device that there was last: NATs and peers know it.
    port: u16,
}

impl Userspace {
    pub(crate) fn new(
        interface: &InterfaceName,
        uapi_directory: Option<PathBuf>,
        stack: Option<Stack>,
        tuning: Tuning,
        road: Road,
    ) -> Self {
        Self { interface: interface.clone(), uapi_directory, stack, tuning, road, port: 0 }
    }

    /// Does something with the device, unless somebody deleted its interface.
    fn device<T>(&self, act: impl FnOnce(&Device) -> T) -> Option<T> {
        let done = self.road.device(act);
        if done.is_none() {
            self.road.put(None);
        }
        done
    }

    /// Without an interface nothing of the machine leads into the tunnel, and a mark would need a privilege.
    const fn mark(&self) -> u32 {
        if self.stack.is_some() { 0 } else { MARK }
    }

    fn update(&self, update: Update) -> Result<(), WireguardError> {
        match self.device(|device| device.apply(update)).ok_or(WireguardError::NoInterface)? {
            Err(ApplyError::Gone) => {
                self.road.put(None);
                Err(WireguardError::NoInterface)
            }
            Err(ApplyError::Port { port, source }) if source.kind() == io::ErrorKind::AddrInUse => {
                Err(WireguardError::PortTaken { port })
            }
            other => Ok(other?),
        }
    }
}

impl Drop for Userspace {
    fn drop(&mut self) {
        // Others may hold the road longer.
        self.road.put(None);
    }
}

impl Wireguard for Userspace {
    fn create(&mut self) -> Result<(), WireguardError> {
        if self.device(|_| ()).is_none() {
            let config = Config {
                uapi_directory: self.uapi_directory.clone(),
                uapi_returns: true,
                cipher: self.tuning.crypto.cipher(),
                offload: self.tuning.offload,
                probe: self.road.hook(),
                fwmark: self.mark(),
                ..Config::default()
            };
            let name = self.interface.as_str();
            let device = match &self.stack {
                None => Device::create(name, config)?,
                Some(stack) => {
                    let mtu = config.mtu;
                    let (ours, theirs) = stack::pair().map_err(WireguardError::Descriptors)?;
                    let device = Device::over(name, ours, config)?;
                    stack.attach(theirs, mtu);
                    device
                }
            };
            if self.port != 0 {
                let update = Update { listen_port: Some(self.port), ..Update::default() };
                // Taken meanwhile: any other will do.
                let _ = device.apply(update);
            }
            self.road.put(Some(device));
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<(), WireguardError> {
        self.road.put(None);
        if let Some(stack) = &self.stack {
            stack.detach();
        }
        Ok(())
    }

    fn set_device(&mut self, key: &PrivateKey, listen_port: Option<u16>) -> Result<(), WireguardError> {
        let (private_key, fwmark) = (Some(Some(key.clone())), Some(self.mark()));
        self.update(Update { private_key, fwmark, listen_port, ..Update::default() })
    }

    fn set_peer(&mut self, peer: &PeerSetting) -> Result<(), WireguardError> {
        let mut update = PeerUpdate::new(peer.key);
        update.endpoint = peer.endpoint;
        update.keepalive_seconds = Some(peer.keepalive_seconds);
        update.replace_allowed_ips = true;
        update.allowed_ips = peer.allowed.iter().copied().collect();
        self.update(Update::peer(update))?;
        self.road.turn_again(&peer.key);
        Ok(())
    }

    fn resume_peer(&mut self, peer: &PeerSetting) -> Result<(), WireguardError> {
        self.set_peer(peer)?;
        self.device(|device| device.begin_handshake(&peer.key));
        Ok(())
    }

    fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WireguardError> {
        self.update(Update::peer(PeerUpdate::removal(*key)))
    }

    fn read(&mut self) -> Result<Option<DeviceState>, WireguardError> {
        let Some(state) = self.device(Device::snapshot) else { return Ok(None) };
        self.port = state.listen_port;
        let peers = state.peers.into_iter().map(|peer| {
            let read = PeerState {
                allowed: peer.allowed_ips,
                endpoint: peer.endpoint,
                keepalive_seconds: peer.keepalive_seconds,
                last_handshake: peer.last_handshake,
                received_bytes: peer.received_bytes,
                sent_bytes: peer.sent_bytes,
            };
            (peer.key, read)
        });
        let public_key = state.private_key.as_ref().map(PrivateKey::public);
        let (listen_port, mark) = (state.listen_port, state.fwmark);
        Ok(Some(DeviceState { public_key, listen_port, mark, peers: peers.collect() }))
    }

    fn backend(&self) -> Backend {
        if self.stack.is_some() { Backend::Netstack } else { Backend::Userspace }
    }
}
