//! The bounds of what a server holds and how often it tries, each with its reason.

use std::time::Duration;

/// Edits that wait for one tenant. At 5 ms a commit the last one waits for a second.
pub const EDITS_QUEUED_MAX: usize = 256;
/// Times that one edit is decided again after somebody else was faster. Eight losses in a row are a busy loop.
pub const ATTEMPTS_MAX: u32 = 8;
/// Generations that a journal remembers: a node that missed more gets the whole.
pub const JOURNAL_GENERATIONS_MAX: usize = 4096;
/// Touched entries that a journal remembers: about 1 MB a tenant.
pub const JOURNAL_ENTRIES_MAX: usize = 16_384;
/// Bytes of a patch on the wire: a frame less room for its stamp.
pub const PATCH_BYTES_MAX: usize = model::limits::FRAME_BYTES_MAX - 4096;
/// Snapshot frames that the shell holds unwritten for one link: half a megabyte for a slow reader, and its next part
/// ready for a fast one.
pub const SNAPSHOT_FRAMES_UNWRITTEN_MAX: u32 = 2;
/// Frames of any kind that the shell holds unwritten for one link. More is a reader that asks and never reads.
pub const FRAMES_UNWRITTEN_MAX: u32 = 256;
/// Links that have not attached yet: their state is small, but anybody can open one.
pub const LINKS_HALF_OPEN_MAX: usize = 4096;
/// Of those, from one address: a quarter, so that one stranger keeps out nobody else. Behind one NAT a thousand devices
/// may come back at once.
pub const LINKS_HALF_OPEN_PER_ADDRESS_MAX: usize = LINKS_HALF_OPEN_MAX / 4;
/// Hints that one device may send in a second: a search for a path takes one or two, and who talks to twenty devices at
/// once may search for all.
pub const HINTS_PER_SECOND: u32 = 20;
/// Hints that one replica passes to the others in a second: each is a word that all of them hear, whoever it is for.
pub const HINTS_PASSED_PER_SECOND: u32 = 200;
/// Of those, from devices of one tenant: a quarter, so that one whose devices look for each other all the time leaves room for
/// others.
pub const HINTS_PASSED_PER_SECOND_OF_TENANT: u32 = HINTS_PASSED_PER_SECOND / 4;
/// Of those, for one device: as many as one may send, so that twenty who talk to it all find it at once, and one that is
/// nowhere costs its tenant less than half of its share.
pub const HINTS_PASSED_PER_SECOND_TO_DEVICE: u32 = HINTS_PER_SECOND;
/// Devices whose arrival one replica tells the others in a second. After a stop of another, five hundred come in one; of those
/// that were not told, saved presence tells later.
pub const ARRIVALS_TOLD_PER_SECOND: u32 = 100;
/// Hints are dropped for a device that has so many frames unread: many may send to one, and its own frames come first.
/// A link holds 64, and one that is full is given up.
pub const HINTS_UNWRITTEN_MAX: u32 = 16;
/// A node that refuses what it is sent gets the whole at once, but not again sooner than this.
pub const WHOLE_INTERVAL: Duration = Duration::from_secs(5);
/// Times that a node may refuse what it is sent, in the life of a link. More is a broken node that fills the log.
pub const RESYNCS_MAX: u32 = 100;
/// A device that becomes active is told of it once the hub is ready for its handshake, or after this: a hub that cannot
/// settle must not keep devices out.
pub const HUB_FIRST_TIME_MAX: Duration = Duration::from_millis(500);
/// A snapshot that was not acknowledged for so long, though the node lives, is sent again.
pub const HOLDING_TIME_MAX: Duration = Duration::from_secs(60);
/// Tokens that one tenant keeps, used up ones among them: about 200 bytes each.
pub const TOKENS_MAX: usize = 100_000;
/// Tags of one device or token: people read them in one line.
pub const TAGS_MAX: usize = 32;
/// Device commands of one link that are sent and not answered: twice what the store has waiting for a device.
pub const COMMANDS_UNANSWERED_MAX: usize = 64;
/// Labels of one device: people read them on a screen.
pub const LABELS_MAX: usize = 32;
/// Longest time until a device expires: ten years, beyond which nobody plans.
pub const DEVICE_LIFE_MAX: Duration = Duration::from_secs(3653 * 24 * 3600);
/// An ephemeral device may be silent for so long at least: it dials again within seconds when its network was away.
pub const IDLE_LEAST: Duration = Duration::from_secs(10);
/// What is silent for longer than a month is not ephemeral.
pub const IDLE_MOST: Duration = Duration::from_secs(31 * 24 * 3600);
/// The quota of a tenant at most: no block has more addresses.
pub const QUOTA_MAX: u32 = 1 << 24;
/// How long a closed tenant can be restored when nobody says: a week has a working day in it.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest grace: a year and a day, as for tokens.
pub const GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// TTL of a custom record in seconds: a week, as RFC 8767 section 4 advises for any TTL.
pub const RECORD_TTL_SECONDS_MAX: u32 = 7 * 24 * 3600;
/// Problems that one node reports and the server keeps.
pub const PROBLEMS_MAX: usize = 16;
/// Instances of one identity that were pushed aside and are remembered, to tell a clone from a restart.
pub const INSTANCES_REMEMBERED: usize = 4;
/// Presence is saved this often: what a crash forgets of it, the next heartbeats tell again.
pub const PRESENCE_SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// A device that another replica heard so long ago is not attached there any more, whatever was saved: a link is given up
/// before, and saved so late.
pub const ATTACHED_MAX: Duration = model::limits::LINK_SILENCE_MAX.saturating_add(PRESENCE_SAVE_INTERVAL);
/// Rows of presence in one save: one short transaction.
pub const PRESENCE_ROWS_MAX: usize = 1000;
/// How often a replica looks for what others wrote: the other half of "well under a second".
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// After the store failed, or a directory was read incompletely, it is looked at again this much later.
pub const STORE_RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Rows that cannot be right are read again after twice as long each time, up to this: the read is a large one.
pub const REREAD_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// A hub among replicas asks this often whether it still is the hub: a new one begins so much later at most.
pub const HUB_HEARTBEAT_SECONDS: u16 = 2;
/// A node that cannot be served now comes back after between half and the whole of this.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A draining server spreads its nodes' return by so much per link: five hundred come in a second.
pub const DRAIN_SPREAD_PER_LINK: Duration = Duration::from_millis(2);
/// The longest spread of a drain: ten seconds less than the half minute in which ten thousand are to be back.
pub const DRAIN_SPREAD_MAX: Duration = Duration::from_secs(20);

/// Roles of one tenant: each host's logins are what all of them say.
pub const SSH_ROLES_MAX: usize = 256;
/// Keys of authorities that one device may say it trusts: a rotation has two of each kind.
pub const INSTALLED_KEYS_MAX: usize = 16;
/// What devices say of their sshd is kept so soon after: a rotation makes all of them say it at once.
pub const INSTALLED_SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// Serials of one tenant that are revoked at once: a list of so many is under a megabyte (`ca::krl`). What follows from a device or a
/// person that is gone is taken back beyond it by what it is called.
pub const REVOCATIONS_MAX: usize = 100_000;
/// Serials of one person or host that is gone which are listed one by one; beyond, all of its certificates are in one line.
pub const SERIALS_OF_ONE_MAX: usize = 256;
/// People and hosts that administrators may have revoked at once: each takes some sixty bytes of the list.
pub const REVOKED_IDS_MAX: usize = 2_000;
/// A device whose abilities the database did not take is noted again with a heartbeat, so long after.
pub const ABILITIES_INTERVAL: Duration = Duration::from_secs(60);
/// Lines of who may be whom that all roles of a tenant may add to one host: some hundred kilobytes of its snapshot.
pub const SSH_GRANTS_MAX: usize = 4_096;
