//! A world with a server in it, and the everyday of its people: enrol, look, revoke.

use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::node::Done;
use crate::process::Process;
use crate::wait::{SOON, until};
use crate::world::World;

/// Where devices find the server.
pub const SERVER_URL: &str = "https://203.0.113.1:8443";
/// The hub's own address in the mesh, in the tenant that a new server starts with.
pub const HUB: &str = "100.64.0.1";
/// The zone of the tenant that a new server starts with.
pub const TENANT_ZONE: &str = "home.internal";

/// A running server and its world.
#[derive(Debug)]
pub struct Mesh {
    world: World,
    /// The unprivileged process.
    pub apid: Rc<Process>,
    /// The privileged daemon.
    pub netd: Rc<Process>,
}

impl Deref for Mesh {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl Mesh {
    /// A server on SQLite, and devices that have not enrolled.
    pub fn new(devices: &[&str]) -> Self {
        Self::in_world(World::new(devices), &[])
    }

    /// Starts both of the server's programs and waits until it is ready.
    pub fn in_world(world: World, apid_flags: &[&str]) -> Self {
        let apid = world.daemon("server", "apid", apid_flags);
        let netd = world.daemon("server", "netd", &[]);
        let mesh = Self { world, apid, netd };
        mesh.server_is_ready(SOON);
        mesh
    }

    /// Waits until the server serves, its hub is up and takes its word.
    pub fn server_is_ready(&self, deadline: Duration) {
        let server = self.on("server");
        let ready = ["curl", "-sf", "http://127.0.0.1:8080/readyz"];
        server.wait("the server is ready", deadline, &ready, |done| done.code == 0);
        let hub = ["wg", "show", "wg0", "listen-port"];
        server.wait("the hub is up", deadline, &hub, |done| done.out.trim() == "51820");
        let health = ["curl", "-s", "http://127.0.0.1:8080/healthz"];
        let is_attached = |done: &Done| done.code == 0 && !done.out.contains("netd is not attached");
        server.wait("the hub is attached", deadline, &health, is_attached);
    }

    /// An onboarding token, made on the server by root.
    pub fn token(&self, flags: &[&str]) -> String {
        let created = self.on("server").json(&[&["warren", "token", "create"], flags].concat());
        text(&created, "secret")
    }

    /// Starts a device's agent, or starts it again.
    pub fn agent(&self, device: &str) -> Rc<Process> {
        self.agent_with(device, &[])
    }

    /// As [`Self::agent`], with flags.
    pub fn agent_with(&self, device: &str, flags: &[&str]) -> Rc<Process> {
        let agent = self.daemon(device, "agent", flags);
        let live = ["warren", "status", "--check", "live"];
        self.on(device).wait("the agent answers", SOON, &live, |done| done.code == 0);
        agent
    }

    /// `warren up` with a token: ends when the device is settled.
    pub fn join(&self, device: &str, token: &str) {
        self.join_at(SERVER_URL, device, token);
    }

    /// As [`Self::join`], where the server has another address.
    pub fn join_at(&self, url: &str, device: &str, token: &str) {
        let join = ["warren", "up", "--server", url, "--token", token, "--hostname", device];
        self.on(device).ok(&join);
    }

    /// Starts the agents of these devices and lets them join.
    pub fn enrol<const N: usize>(&self, devices: [&str; N]) -> [Rc<Process>; N] {
        devices.map(|device| {
            let agent = self.agent(device);
            self.join(device, &self.token(&[]));
            agent
        })
    }

    /// `warren device list`, by name.
    pub fn device(&self, name: &str) -> Option<Value> {
        let list = self.on("server").json(&["warren", "device", "list"]);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().find(|device| device["name"] == name)
    }

    /// `warren status` of a device.
    pub fn status(&self, device: &str) -> Value {
        self.on(device).json(&["warren", "status"])
    }

    /// How a device's packets reach another one, as `warren status` says it: `null` while it does not know it.
    pub fn path(&self, from: &str, to: &str) -> Value {
        let status = self.status(from);
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        peers.into_iter().find(|peer| peer["name"] == to).unwrap_or(Value::Null)
    }

    /// Whether the way begins with this: `direct`, `relayed`, `idle`.
    pub fn goes(&self, from: &str, to: &str, way: &str) -> bool {
        self.path(from, to)["path"].as_str().is_some_and(|path| path.starts_with(way))
    }

    /// Waits until the way begins with this. One that carries packets already may be doubted for a moment, where a machine is busy.
    ///
    /// # Panics
    /// If it does not.
    pub fn takes(&self, from: &str, to: &str, way: &str) {
        let found = until(SOON, || self.goes(from, to, way).then_some(()));
        assert!(found.is_some(), "not {way}: {}", self.path(from, to));
    }

    /// The interface of a device's agent.
    pub fn interface(&self, device: &str) -> String {
        let told = text(&self.status(device), "interface");
        told.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Waits until a device is active, settled and connected.
    pub fn ready(&self, device: &str, deadline: Duration) -> Duration {
        let ready = ["warren", "status", "--check", "ready"];
        self.on(device).wait(&format!("{device} is ready"), deadline, &ready, |done| done.code == 0)
    }

    /// One field of a device that is there.
    pub fn device_field(&self, name: &str, field: &str) -> String {
        let device = self.device(name).unwrap_or_else(|| panic!("no device {name}"));
        text(&device, field)
    }

    /// `warren device revoke`.
    pub fn revoke(&self, name: &str) {
        self.on("server").ok(&["warren", "device", "revoke", name, "--yes"]);
    }

    /// The peers of an interface, as plain `wg` sees them: public keys, sorted.
    pub fn wg_peers(&self, node: &str, interface: &str) -> Vec<String> {
        let out = self.on(node).run(&["wg", "show", interface, "peers"]).out;
        let mut peers: Vec<String> = out.lines().map(str::to_owned).collect();
        peers.sort();
        peers
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {value}")).to_owned()
}
