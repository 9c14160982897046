//! Answers of other servers of names, as the forwarder passes them on.

use dns::forward::relay;
use hickory_proto::op::Message;

/// The query, with its length in two bytes in front, and the response to it. What is passed on answers the query, says what
/// the server said, and would be passed on unchanged.
pub(crate) fn check(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let Some((query, response)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) else { return };
    let Some(answer) = relay(query, response) else { return };
    assert!(answer.len() <= query.len() + response.len() + 32);
    assert_eq!((&answer[..2], answer[2] & 0xf8), (&query[..2], 0x80));
    assert!(matches!(answer[3] & 0x0f, 0 | 3), "a server that refuses is not passed on");
    // That we are no authority may make a referral of it, which nobody passes on.
    if let Some(again) = relay(query, &answer) {
        assert_eq!(again, answer);
    }
    let Ok(theirs) = Message::from_vec(response) else { return };
    let ours = Message::from_vec(&answer).expect("what could be read before");
    assert_eq!(ours.queries, theirs.queries);
    let said = |message: &Message| -> Vec<_> {
        message.answers.iter().map(|record| (record.name.to_lowercase(), record.data.clone())).collect()
    };
    assert_eq!(said(&ours), said(&theirs));
}
