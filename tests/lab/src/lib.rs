//! The lab: real processes in network namespaces, judged from outside. Knows the programs by their command lines only.
//!
//! A story is one test: it makes a [`World`] (or a [`Mesh`], which is a world with a server in it), does what people
//! and accidents do, and waits with deadlines for what must become true. Whatever happens, nothing is left behind:
//! the world is taken down when it goes out of scope, and what a killed run left is swept by the next.
//!
//! Every program logs JSON lines into a file. A line of level WARN or ERROR that the story did not announce with
//! [`World::announce`] fails it; the tails of all logs are shown when a story fails.
//!
//! [`wg`] is the smaller lab of two namespaces for WireGuard engines alone, which stories and measurements share.

mod logs;
mod mesh;
mod narrow;
mod nat;
mod node;
mod pinging;
mod places;
mod postgres;
mod process;
mod small_disk;
pub mod sshd;
mod wait;
pub mod wg;
mod world;

pub use mesh::{HUB, Mesh, SERVER_URL, TENANT_ZONE};
pub use narrow::Transfer;
pub use nat::{Nat, SERVER_V6};
pub use node::{Done, Node};
pub use pinging::Pinging;
pub use postgres::{Pooler, Postgres};
pub use process::Process;
pub use small_disk::SmallDisk;
pub use wait::{SOON, until, wait_for};
pub use world::World;
