//! What the server decides: directories, edits, plans, the publisher and the server's side of every link. Sans-IO;
//! knows no database, socket, clock or random source, and never what a node does with a snapshot.

mod dice;
pub mod directory;
pub mod edit;
pub mod enrolment;
pub mod limits;
pub mod rows;

pub use dice::Dice;
pub use directory::Directory;
pub use edit::{Answer, Edit};
pub use enrolment::VerifiedEnrol;
pub use rows::{
    Actor, AuditEntry, Commit, CommitError, CommitId, Device, DnsEntry, Fact, Hub, Loaded, PresenceRow,
    Refresh, Since, Standings, Tenant, TenantRows, Token,
};
