//! What the server decides: directories, edits, plans, the publisher and the server's side of every link. Sans-IO;
//! knows no database, socket, clock or random source, and never what a node does with a snapshot.

mod actor;
mod control;
mod dice;
mod directories;
pub mod directory;
pub mod edit;
pub mod enrolment;
pub mod event;
mod half_open;
mod hints;
pub mod io;
mod lanes;
pub mod lease;
pub mod limits;
pub mod link;
mod outbox;
pub mod presence;
mod publisher;
pub mod rows;
mod session;
pub mod ssh;

pub use control::Control;
pub use dice::Dice;
pub use directories::Withheld;
pub use directory::Directory;
pub use edit::{Answer, Edit, HubInterface};
pub use enrolment::{ProvenKey, VerifiedEnrol};
pub use event::Event;
pub use hints::PassedHint;
pub use io::{ControlConfig, HubPlace, Input, Output, RequestId, SealedHubKey};
pub use lease::{LeaseWord, Term};
pub use link::{LinkId, Origin};
pub use outbox::Counters;
pub use presence::{HubPresence, Presence, Sighting};
pub use rows::{
    Actor, AuditClass, AuditEntry, By, Closing, Commit, CommitError, CommitId, Device, DnsEntry, Fact, Hub,
    Kind, Loaded, PresenceRow, Refresh, Since, Standings, Stay, Tenant, TenantRows, Token, Trace,
};
pub use ssh::{
    Authority, AuthorityKey, InstalledRow, NewKey, Revocation, SshFact, SshRole, SshRows, Withdrawn,
};
