//! The query log, as a subscriber of the program's log sees it.

use std::sync::{Arc, Mutex};

use dns::serve::Options;
use tokio::io::AsyncWriteExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::client::{ask_udp, client_from, connect_from, framed, query, read_tcp};
use crate::forwarding::Led;
use crate::{neighbour, start, start_with};

/// Lines as `field=value …`, of everything in this process.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _attributes: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().expect("nobody panics").push(line.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Lines {
    /// Lines of the query log about one asker, without the time at their end.
    fn of(&self, asker: &str) -> Vec<String> {
        let lines = self.0.lock().expect("nobody panics");
        let of_asker =
            lines.iter().filter(|line| line.contains("a name was asked for") && line.contains(asker));
        of_asker.map(|line| line.split(" micros=").next().unwrap_or_default().to_owned()).collect()
    }
}

#[tokio::test]
async fn questions_are_logged_when_it_is_wished_and_in_one_line_each() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).expect("no other test sets one");

    let (_names, server, at) = start().await;
    ask_udp(&client_from(neighbour(77), at).await, 1, "laptop.home.internal").await;
    server.close().await;
    assert!(lines.of("127.0.0.77").is_empty(), "off unless set");

    let (_names, server, at) = start_with(Options { log_sample: 1, ..Options::default() }).await;
    let client = client_from(neighbour(78), at).await;
    ask_udp(&client, 1, "Laptop.home.internal").await;
    ask_udp(&client, 2, "example.org").await;
    ask_udp(&client, 3, "new\nline.home.internal").await;
    server.forward(Led::new());
    ask_udp(&client, 5, "known.test").await;
    ask_udp(&client, 6, "at-once.test").await;
    let mut stream = connect_from(neighbour(78), at).await;
    stream.write_all(&framed(&query(4, "missing.home.internal"))).await.expect("sent");
    read_tcp(&mut stream).await;
    server.close().await;
    let mut logged = lines.of("127.0.0.78");
    logged.sort();
    let line = |name: &str, rcode: &str, transport: &str, path: &str| {
        format!(
            "message=a name was asked for asker=127.0.0.78 name={name:?} kind=\"A\" rcode={rcode:?} \
             transport={transport:?} path={path:?}"
        )
    };
    assert_eq!(
        logged,
        [
            line("Laptop.home.internal.", "noerror", "udp", "hot"),
            line("at-once.test.", "noerror", "udp", "forwarded"),
            line("example.org.", "refused", "udp", "slow"),
            line("known.test.", "noerror", "udp", "forwarded"),
            line("missing.home.internal.", "nxdomain", "tcp", "hot"),
            line("new\\010line.home.internal.", "nxdomain", "udp", "hot"),
        ]
    );

    let (_names, server, at) = start_with(Options { log_sample: 10, ..Options::default() }).await;
    let client = client_from(neighbour(79), at).await;
    for id in 0..500 {
        ask_udp(&client, id, "laptop.home.internal").await;
    }
    server.close().await;
    let logged = lines.of("127.0.0.79").len();
    assert!((25..80).contains(&logged), "one of ten: {logged}");
}
