//! A zone with everything in it, from a seed: as Warren holds it, and as files for other servers.

use std::fmt::Write as _;
use std::net::IpAddr;

use dns::{Names, Transport};
use hickory_proto::op::Message;
use model::{Block, Generation, Name, Record, RecordData, RecordSet, TenantId, Zone};

use crate::dice::Dice;
use crate::words::{arpa, wire};

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
const ORIGIN: &str = "home.internal";
const APEXES: [&str; 3] = [ORIGIN, "64.100.in-addr.arpa", "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"];
const DEVICES: u32 = 1000;
/// Of each kind of names that people add.
const OWN: u32 = 150;
/// As many links of CNAME records as an answer holds (`dns::limits`).
const CHAIN_MAX: u32 = 8;

/// A tenant's names.
pub struct Home {
    /// They answer.
    pub names: Names,
    /// The same as data.
    pub zone: Zone,
}

impl Home {
    /// The zone of a seed. With an odd one the origin has a wildcard, so that none of its names is missing.
    pub fn new(seed: u64) -> Self {
        let v6 = "fd12:3456:789a::/48".parse().expect("a net");
        let block = Block::from_nets("100.64.0.0/16".parse().expect("a net"), v6).expect("a block");
        let zone = Zone::new(ORIGIN.parse().expect("a name"), block);
        let mut growing = Growing { dice: Dice::new(seed), zone };
        growing.devices();
        growing.texts();
        growing.aliases();
        growing.wildcards();
        if seed % 2 == 1 {
            growing.add("*", &["TXT anything at all", "A 192.0.2.99"]);
        }
        let names = Names::new([7; 32]);
        names.whole(TENANT, Generation(seed + 1), &growing.zone).expect("nobody else has the block");
        Self { names, zone: growing.zone }
    }

    /// A device that asks.
    pub fn asker(&self) -> IpAddr {
        IpAddr::V4(self.zone.block.host(2).expect("in the block").v4)
    }

    /// How many devices there are, the hub among them.
    pub(crate) const fn devices(&self) -> u32 {
        DEVICES
    }

    /// Zone files (RFC 1035, section 5) by apex: names and both reverse trees.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let mut texts = APEXES.map(|apex| self.top(apex));
        for (owner, set) in self.zone.names.iter() {
            for record in &set.records {
                let _ = writeln!(texts[0], "{owner}. {} IN {}", record.ttl, text(&record.data));
                let address = match record.data {
                    RecordData::A(address) => IpAddr::V4(address),
                    RecordData::Aaaa(address) => IpAddr::V6(address),
                    _ => continue,
                };
                if set.reverse && self.zone.block.contains(address) {
                    let text = &mut texts[if address.is_ipv4() { 1 } else { 2 }];
                    let ttl = model::limits::NAME_TTL_SECONDS;
                    let _ = writeln!(text, "{}. {ttl} IN PTR {owner}.", arpa(address));
                }
            }
        }
        APEXES.into_iter().zip(texts).collect()
    }

    /// What a zone file must begin with: nobody but us decides it, so our own answers are asked for it.
    fn top(&self, apex: &str) -> String {
        let mut lines = String::new();
        for kind in [6_u8, 2] {
            let name = wire(&crate::words::of_text(apex));
            let query = [b"\0\0\0\0\0\x01\0\0\0\0\0\0".as_slice(), &name, &[0, kind, 0, 1]].concat();
            let answer = self.names.answer(&query, self.asker(), Transport::Tcp).into_reply();
            let (bytes, _) = answer.expect("a query is answered");
            let message = Message::from_vec(&bytes).expect("an answer is a message");
            let _ = writeln!(lines, "{}", message.answers[0]);
        }
        lines
    }
}

struct Growing {
    dice: Dice,
    zone: Zone,
}

impl Growing {
    /// All of one type have one TTL, as a server that reads zone files wants it.
    fn add(&mut self, owner: &str, records: &[&str]) {
        let ttl = *self.dice.pick(&[1, 30, 60, 3600, 86_400]);
        let record = |text: &&str| {
            let (kind, value) = text.split_once(' ').expect("a type and a value");
            Record { data: RecordData::parse(kind, value).expect("a value of the type"), ttl }
        };
        let mut records: Vec<Record> = records.iter().map(record).collect();
        records.sort();
        records.dedup();
        self.zone.names.insert(self.name(owner), RecordSet { records, reverse: false });
    }

    fn name(&self, owner: &str) -> Name {
        format!("{owner}.{ORIGIN}").parse().expect("a name")
    }

    /// Some below names that have no records; some addresses with further names.
    fn devices(&mut self) {
        for number in 1..=DEVICES {
            let set = RecordSet::of_node(self.zone.block.host(number).expect("in the block"));
            let owner = match number {
                1 => "hub".to_owned(),
                _ if number % 10 == 0 => format!("seat-{number}.room-{}.floor-{}", number % 7, number % 3),
                _ => format!("device-{number}"),
            };
            if number % 20 == 5 {
                for also in 0..=self.dice.below(4) {
                    self.zone.names.insert(self.name(&format!("also-{also}-{number}")), set.clone());
                }
            }
            self.zone.names.insert(self.name(&owner), set);
        }
    }

    /// From one record to more than a datagram holds, of all types, with every sign that a zone file has to quote.
    fn texts(&mut self) {
        for number in 0..OWN {
            let many = 1 + self.dice.below(30);
            let signs =
                ["plain", "two words", "a \"quote\"", "back\\slash", ";no comment", "UPPER", "äöü €", ""];
            let texts: Vec<String> = (0..many)
                .map(|n| {
                    let sign = self.dice.pick(&signs).to_string();
                    format!("TXT {n} {sign}{}", "x".repeat(self.dice.below(80) as usize))
                })
                .collect();
            self.add(&format!("text-{number}"), &texts.iter().map(String::as_str).collect::<Vec<_>>());
            let addresses: Vec<String> = (0..many).map(|n| format!("A 192.0.2.{n}")).collect();
            self.add(&format!("many-{number}"), &addresses.iter().map(String::as_str).collect::<Vec<_>>());
            let six: Vec<String> = (0..many).map(|n| format!("AAAA 2001:db8::{n:x}")).collect();
            self.add(&format!("six-{number}"), &six.iter().map(String::as_str).collect::<Vec<_>>());
            let services = [
                format!("SRV {} 5 8080 device-{}.{ORIGIN}", number % 3, 11 + number),
                format!("SRV 10 {number} 443 www.example.org"),
            ];
            self.add(&format!("_http._tcp.site-{number}"), &[&services[0], &services[1]]);
        }
    }

    /// Chains of every length to everything that a name can be, and circles.
    fn aliases(&mut self) {
        let ends = [
            format!("device-3.{ORIGIN}"),
            format!("missing.{ORIGIN}"),
            format!("missing.device-3.{ORIGIN}"),
            format!("floor-1.{ORIGIN}"),
            format!("text-7.{ORIGIN}"),
            format!("any.wild-3.{ORIGIN}"),
            format!("any.wild-7.{ORIGIN}"),
            format!("_http._tcp.site-1.{ORIGIN}"),
            "www.example.org".to_owned(),
            ORIGIN.to_owned(),
        ];
        for (number, end) in (0_u32..).zip(&ends) {
            for link in 0..CHAIN_MAX {
                let target =
                    if link == 0 { end.clone() } else { format!("link-{}-{number}.{ORIGIN}", link - 1) };
                self.add(&format!("link-{link}-{number}"), &[&format!("CNAME {target}")]);
            }
        }
        self.add("self", &[&format!("CNAME self.{ORIGIN}")]);
        self.add("round", &[&format!("CNAME trip.{ORIGIN}")]);
        self.add("trip", &[&format!("CNAME round.{ORIGIN}")]);
    }

    /// With names beside, below and between (RFC 4592, section 2.2.1).
    fn wildcards(&mut self) {
        for number in 0..OWN {
            let below = format!("wild-{number}");
            match number % 4 {
                0 => self.add(&format!("*.{below}"), &["A 192.0.2.1", "AAAA 2001:db8::1"]),
                1 => self.add(&format!("*.{below}"), &["TXT wild", "SRV 1 2 3 www.example.org"]),
                2 => self.add(&format!("*.{below}"), &[&format!("CNAME device-9.{ORIGIN}")]),
                _ => self.add(&format!("*.{below}"), &[&format!("CNAME x.wild-{}.{ORIGIN}", number - 1)]),
            }
            self.add(&format!("own.{below}"), &["TXT own"]);
            self.add(&format!("deep.between.{below}"), &["A 192.0.2.2"]);
            if number % 3 == 0 {
                self.add(&format!("*.between.{below}"), &["A 192.0.2.3"]);
                self.add(&format!("*.sub.{below}"), &["A 192.0.2.4"]);
            }
        }
    }
}

/// Type and value as in a zone file.
fn text(data: &RecordData) -> String {
    match data {
        RecordData::A(address) => format!("A {address}"),
        RecordData::Aaaa(address) => format!("AAAA {address}"),
        RecordData::Cname(target) => format!("CNAME {target}."),
        RecordData::Srv { priority, weight, port, target } => {
            format!("SRV {priority} {weight} {port} {target}.")
        }
        RecordData::Txt(text) => {
            let quoted: String = text
                .as_str()
                .bytes()
                .map(|byte| match byte {
                    b'"' | b'\\' => format!("\\{}", char::from(byte)),
                    b' '..=b'~' => char::from(byte).into(),
                    _ => format!("\\{byte:03}"),
                })
                .collect();
            format!("TXT \"{quoted}\"")
        }
        RecordData::Later(_) => unreachable!("nobody made one here"),
    }
}
