//! The cache within its memory, and what a hit costs in memory: nothing.

use dns::forward::{CacheBytes, ForwardConfig};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record, RecordType};

use crate::ask::{ask, cached, forwarder_with, parse, query};
use crate::fake::{Act, Fake, answer};

#[tokio::test]
async fn however_much_is_asked_the_cache_stays_within_its_bound() {
    const BYTES: usize = 96 * 1024;
    let fake = Fake::start(|heard| {
        let mut message = answer(&heard.query, ResponseCode::NoError);
        let owner = heard.query.queries[0].name().clone();
        let text = TXT::new(vec!["x".repeat(owner.to_ascii().len() * 7 % 200)]);
        message.add_answer(Record::from_rdata(owner, 600, RData::TXT(text)));
        Act::Say(message)
    })
    .await;
    let config = ForwardConfig {
        upstreams: vec![parse(&fake.rule())],
        cache: CacheBytes(BYTES),
        ..Default::default()
    };
    let forwarder = forwarder_with(config);
    for number in 0..1_500 {
        ask(&forwarder, &format!("{}{number}.example.", "n".repeat(number % 40))).await;
        let report = forwarder.cache();
        assert!(report.bytes <= BYTES, "{report:?} after {number}");
    }
    let report = forwarder.cache();
    assert!(report.evicted > 500 && report.answers > 100, "{report:?}");
    let last = query(&format!("{}1499.example.", "n".repeat(1_499 % 40)), RecordType::A);
    assert!(cached(&forwarder, &last).is_some(), "the newest is there");
}
