//! The bounds of this crate, each with its reason.

/// Largest UDP message that we send, and the payload size that we announce: 1280 (the least IPv6 MTU) less 40
/// bytes IPv6 and 8 bytes UDP, so that no answer is fragmented (DNS flag day 2020).
pub const UDP_PAYLOAD_BYTES_MAX: u16 = 1232;
/// The room that an answer in the place of its query needs: the largest datagram that is sent.
pub const HOT_BUFFER_BYTES: usize = UDP_PAYLOAD_BYTES_MAX as usize;
/// Largest UDP message without EDNS (RFC 1035, section 4.2.1).
pub const UDP_PLAIN_BYTES_MAX: u16 = 512;
/// CNAME records followed for one question. Longer chains are given as far as this; the asker goes on.
pub const CNAME_CHAIN_MAX: usize = 8;
/// Names given for one address: what one name may have in records, so that the answer fits as well.
pub const PTR_RECORDS_MAX: usize = model::limits::RECORDS_PER_NAME_MAX;
/// Seconds until a secondary would ask for the SOA again. There are none; the figure is the usual one.
pub const SOA_REFRESH_SECONDS: i32 = 3600;
/// Seconds until a secondary would try again.
pub const SOA_RETRY_SECONDS: i32 = 600;
/// Seconds until a secondary would give up.
pub const SOA_EXPIRE_SECONDS: i32 = 86_400;
