//! Messages as bytes, within what the asker takes. Decides nothing that they say.

use hickory_proto::op::Message;

const TRUNCATED: u8 = 0x02;

/// Writes a message. One that is too long is sent without records and with TC: the asker comes back over TCP.
pub(crate) fn write(message: &Message, limit: usize) -> Option<Vec<u8>> {
    let whole = message.to_vec().ok().filter(|bytes| bytes.len() <= limit);
    whole.or_else(|| message.truncate().to_vec().ok())
}

/// Whether an answer says that it was too long.
pub(crate) fn is_cut(message: &[u8]) -> bool {
    message.get(2).is_some_and(|third| third & TRUNCATED != 0)
}
