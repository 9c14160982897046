//! Questions from a seed: for every name that is and for many that are not, plain and with everything that may be odd
//! about a query.

use std::net::{IpAddr, Ipv6Addr};

use crate::dice::Dice;
use crate::home::Home;
use crate::words::{Labels, arpa, fits, of_name, of_text, wire};

/// Types that zones have, that they may have, and that nobody knows.
const KINDS: [u16; 26] =
    [1, 28, 16, 33, 5, 2, 6, 12, 15, 13, 35, 43, 46, 47, 48, 52, 64, 65, 99, 257, 1, 28, 16, 16, 4711, 65280];
const META_KINDS: [u16; 6] = [249, 250, 251, 253, 254, 128];
const PAYLOADS: [u16; 9] = [0, 511, 512, 513, 700, 1232, 1400, 4096, 65535];
const FOREIGN: [&str; 5] = ["www.example.org", "internal", "away.internal", "arpa", "xhome.internal"];
const CLASS_IN: u16 = 1;

/// Asks about one home.
pub struct Asker {
    dice: Dice,
    owners: Vec<Labels>,
    origin: Labels,
    hosts: Vec<[IpAddr; 2]>,
}

impl Asker {
    /// The questions of a seed.
    pub fn new(home: &Home, seed: u64) -> Self {
        let host = |number| home.zone.block.host(number).map(|addresses| addresses.both());
        Self {
            dice: Dice::new(seed ^ 0x5eed),
            owners: home.zone.names.keys().map(of_name).collect(),
            origin: of_name(&home.zone.origin),
            hosts: (1..=2 * home.devices()).filter_map(host).collect(),
        }
    }

    /// The next query, which is a whole message. No two at a distance of less than 65536 have the same id.
    pub fn query(&mut self, number: u32) -> Vec<u8> {
        let mut name = self.name();
        if !fits(&name) {
            name.clone_from(&self.origin);
        }
        if self.dice.percent(50) {
            name.iter_mut().flatten().for_each(|byte| {
                if self.dice.percent(50) {
                    *byte = byte.to_ascii_uppercase();
                }
            });
        }
        let mut query = number.to_be_bytes()[2..].to_vec();
        query.extend(self.flags());
        let opt = self.opt();
        query.extend([0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())]);
        query.extend(wire(&name));
        query.extend(self.kind().to_be_bytes());
        query.extend(self.class().to_be_bytes());
        query.extend(opt.unwrap_or_default());
        query
    }

    fn name(&mut self) -> Labels {
        let owner = self.dice.pick(&self.owners).clone();
        match self.dice.below(100) {
            0..40 => owner,
            40..48 => owner[self.dice.below(owner.len() as u32 - 1) as usize..].to_vec(),
            48..58 => [vec![self.label()], owner].concat(),
            58..64 => [vec![self.label(), self.label()], owner].concat(),
            64..70 => [vec![self.label()], owner[1..].to_vec()].concat(),
            70..74 => [vec![b"*".to_vec()], owner[self.dice.below(2) as usize..].to_vec()].concat(),
            74..78 => [vec![self.label()], self.origin.clone()].concat(),
            78..81 => self.origin.clone(),
            81..94 => self.reverse(),
            94..97 => of_text(self.dice.pick::<&str>(&FOREIGN)),
            _ => self.long(owner),
        }
    }

    /// A label that most likely nobody has: a word, or any bytes.
    fn label(&mut self) -> Vec<u8> {
        if self.dice.percent(80) {
            let words =
                ["a", "x", "deep", "between", "sub", "own", "device-1", "missing", "*", "_tcp", "hub"];
            return self.dice.pick(&words).as_bytes().to_vec();
        }
        (0..=self.dice.below(12)).map(|_| self.dice.byte()).collect()
    }

    /// Addresses with and without names, what is above and below them, and what only looks like one.
    fn reverse(&mut self) -> Labels {
        let both = *self.dice.pick(&self.hosts);
        let mut labels = of_text(&arpa(both[self.dice.below(2) as usize]));
        match self.dice.below(20) {
            0 => labels = [vec![self.label()], labels].concat(),
            1 => labels[0] = self.label(),
            2 => labels[0].insert(0, b'0'),
            3 => labels[0] = b"256".to_vec(),
            4..7 => {
                let above = self.dice.below(labels.len() as u32 - 2) as usize;
                labels.drain(..above);
            }
            7 => {
                let other = [IpAddr::from([100, 65, 0, 1]), IpAddr::from(Ipv6Addr::LOCALHOST)];
                labels = of_text(&arpa(*self.dice.pick(&other)));
            }
            _ => {}
        }
        labels
    }

    /// As long as a name can be.
    fn long(&mut self, owner: Labels) -> Labels {
        let mut labels = owner;
        loop {
            let label = vec![b'a' + self.dice.byte() % 26; 1 + self.dice.below(63) as usize];
            let longer = [vec![label], labels.clone()].concat();
            if !fits(&longer) {
                return labels;
            }
            labels = longer;
        }
    }

    /// Mostly what resolvers send: RD or nothing.
    fn flags(&mut self) -> [u8; 2] {
        let mut flags = [u8::from(self.dice.percent(50)), 0];
        if self.dice.percent(3) {
            flags[0] |= self.dice.below(16) as u8 * 8;
        }
        if self.dice.percent(10) {
            flags[0] |= self.dice.byte() & 0b0000_0110;
            flags[1] |= self.dice.byte() & 0b1111_0000;
        }
        flags
    }

    fn kind(&mut self) -> u16 {
        match self.dice.below(100) {
            0..97 => *self.dice.pick(&KINDS),
            97 => 255,
            98 => *self.dice.pick(&META_KINDS),
            _ => u16::from_be_bytes([self.dice.byte(), self.dice.byte()]),
        }
    }

    fn class(&mut self) -> u16 {
        if self.dice.percent(98) { CLASS_IN } else { *self.dice.pick(&[3, 4, 254, 255, 0, 42]) }
    }

    fn opt(&mut self) -> Option<Vec<u8>> {
        if self.dice.percent(30) {
            return None;
        }
        let version = if self.dice.percent(95) { 0 } else { self.dice.byte() };
        let dnssec_ok = if self.dice.percent(30) { 0x80 } else { 0 };
        let odd = if self.dice.percent(10) { self.dice.byte() } else { 0 };
        let options: &[u8] = match self.dice.below(10) {
            0 => b"\0\x0a\0\x08cookie!!",
            1 => b"\0\x03\0\0",
            2 => b"\0\x0c\0\x04\0\0\0\0",
            3 => b"\xfd\xe9\0\x02hi\0\x0a\0\x08cookie!!",
            4 => b"\0\x08\0\x07\0\x01\x18\0\xc0\0\x02",
            _ => b"",
        };
        let length = u16::try_from(options.len()).expect("short").to_be_bytes();
        let payload = self.dice.pick(&PAYLOADS).to_be_bytes();
        let flags = [0, version, dnssec_ok | odd & 0x7f, odd];
        Some([b"\0\0\x29".as_slice(), &payload, &flags, &length, options].concat())
    }
}
