//! What a server answered, read by hand and checked, and made into what is kept. Trusts no length, pointer or count.

use std::net::IpAddr;

use super::kept::{Kept, Parts};
use super::limits::{NEGATIVE_SECONDS_MAX, TTL_SECONDS_MAX};
use super::question::{HEADER_BYTES, KIND_A, KIND_AAAA, KIND_ANY, KIND_OPT, KIND_SOA, Key, NAME_BYTES_MAX};

const KIND_NS: u16 = 2;
const KIND_SVCB: u16 = 64;
const KIND_HTTPS: u16 = 65;
const PARAM_IPV4_HINT: u16 = 4;
const PARAM_IPV6_HINT: u16 = 6;
const OPTION_EXTENDED_ERROR: u16 = 15;
const CODE_FORMAT_ERROR: u8 = 1;
const CODE_NOT_IMPLEMENTED: u8 = 4;

/// Why a message is not the answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It answers something else, or nothing at all.
    Strange,
    /// It did not fit into a datagram.
    Cut,
    /// The server does not know EDNS (RFC 6891, section 7).
    NoEdns,
    /// The server will not or cannot say; with its own word why (RFC 8914).
    Refused(Option<u16>),
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// It may be given.
    Good(Kept),
    /// It leads to an address that the name may not lead to.
    Blocked(Kept),
}

impl Read {
    pub(super) fn kept_mut(&mut self) -> &mut Kept {
        match self {
            Self::Good(kept) | Self::Blocked(kept) => kept,
        }
    }
}

/// Reads the answer to a question. `forbidden` says which addresses its name may not lead to.
pub(super) fn read(
    response: &[u8],
    key: &Key,
    case_matters: Option<&[u8]>,
    forbidden: impl Fn(IpAddr) -> bool,
) -> Result<Read, Unfit> {
    let header = response.first_chunk::<HEADER_BYTES>().ok_or(Unfit::Strange)?;
    let end = HEADER_BYTES + key.question().len();
    let question = response.get(HEADER_BYTES..end).unwrap_or_default();
    let is_response = header[2] & 0b1111_1000 == 0b1000_0000;
    if !is_response {
        return Err(Unfit::Strange);
    }
    let code = header[3] & 0x0f;
    let counts = [4, 6, 8, 10].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
    // A server that understood nothing may repeat nothing.
    if matches!(code, CODE_FORMAT_ERROR | CODE_NOT_IMPLEMENTED) && counts[1..] == [0; 3] {
        return Err(Unfit::NoEdns);
    }
    if !matches!(code, 0 | 3) && counts == [0; 4] {
        return Err(Unfit::Refused(None));
    }
    let is_ours =
        case_matters.map_or_else(|| question.eq_ignore_ascii_case(key.question()), |sent| question == sent);
    if counts[0] != 1 || !is_ours {
        return Err(Unfit::Strange);
    }
    if header[2] & 0x02 != 0 {
        return Err(Unfit::Cut);
    }
    let is_authoritative = header[2] & 0x04 != 0;
    let mut found = Found::default();
    found.read(response, end, counts, key.kind(), forbidden).ok_or(Unfit::Strange)?;
    if !matches!(code, 0 | 3) || found.code_high != 0 || found.is_referral(code, is_authoritative) {
        return Err(Unfit::Refused(found.extended_error));
    }
    Ok(found.finish(response, end, key, code))
}

/// What stands in a message.
#[derive(Debug, Default)]
struct Found {
    /// Where the part that is kept ends: what comes after EDNS is left out with it.
    end: usize,
    counts: [u16; 3],
    /// Where each TTL stands, and what to write there.
    ttls: Vec<(u16, u32)>,
    seconds: Option<u32>,
    has_soa: bool,
    has_ns: bool,
    has_kind: bool,
    leads_astray: bool,
    code_high: u8,
    extended_error: Option<u16>,
}

/// A record, as far as it matters.
struct Record<'a> {
    kind: u16,
    /// Where its TTL stands.
    ttl_at: usize,
    ttl: u32,
    data: &'a [u8],
    end: usize,
}

impl Found {
    /// Reads all records. `None` if the message is broken.
    fn read(
        &mut self,
        message: &[u8],
        mut at: usize,
        counts: [u16; 4],
        kind: u16,
        forbidden: impl Fn(IpAddr) -> bool,
    ) -> Option<()> {
        let start = at;
        self.end = at;
        let mut is_over = false;
        for section in 0..3 {
            for _ in 0..counts[section + 1] {
                let record = Record::read(message, at)?;
                at = record.end;
                if record.kind == KIND_OPT {
                    is_over = true;
                    self.read_edns(message[record.ttl_at], record.data);
                } else if !is_over {
                    if leads_to(&record, &forbidden) {
                        // Addresses that nobody asked for are simply not passed on.
                        is_over = section == 2;
                        self.leads_astray |= section != 2;
                    }
                    if !is_over {
                        self.take(&record, section, start, kind)?;
                    }
                }
            }
        }
        Some(())
    }

    fn take(&mut self, record: &Record<'_>, section: usize, start: usize, kind: u16) -> Option<()> {
        let mut ttl = record.ttl.min(TTL_SECONDS_MAX);
        match (section, record.kind) {
            (0, of_kind) => self.has_kind |= of_kind == kind || kind == KIND_ANY,
            (1, KIND_SOA) => {
                // RFC 2308, section 5: the smaller of the two says how long the "no" holds.
                let minimum = u32::from_be_bytes(*record.data.last_chunk()?);
                ttl = ttl.min(minimum).min(NEGATIVE_SECONDS_MAX);
                self.has_soa = true;
            }
            (1, KIND_NS) => self.has_ns = true,
            _ => {}
        }
        self.seconds = Some(self.seconds.map_or(ttl, |seconds| seconds.min(ttl)));
        self.ttls.push((u16::try_from(record.ttl_at - start).ok()?, ttl));
        self.counts[section] += 1;
        self.end = record.end;
        Some(())
    }

    fn read_edns(&mut self, code_high: u8, mut options: &[u8]) {
        self.code_high = code_high;
        while let Some(&[kind_high, kind_low, high, low]) = options.first_chunk() {
            let end = 4 + usize::from(u16::from_be_bytes([high, low]));
            let value = options.get(4..end).unwrap_or_default();
            if u16::from_be_bytes([kind_high, kind_low]) == OPTION_EXTENDED_ERROR
                && let Some(code) = value.first_chunk()
            {
                self.extended_error = Some(u16::from_be_bytes(*code));
            }
            options = options.get(end..).unwrap_or_default();
        }
    }

    /// "Ask those there": no answer for one who does not look for it himself.
    const fn is_referral(&self, code: u8, is_authoritative: bool) -> bool {
        code == 0 && self.counts[0] == 0 && self.has_ns && !self.has_soa && !is_authoritative
    }

    fn finish(self, message: &[u8], start: usize, key: &Key, code: u8) -> Read {
        // Without SOA a "no" has no time (RFC 2308, section 5).
        let is_no = code != 0 || self.counts[0] == 0;
        let seconds = if is_no && !self.has_soa { 0 } else { self.seconds.unwrap_or_default() };
        if self.leads_astray {
            return Read::Blocked(Kept::blocked(key.as_bytes(), self.seconds.unwrap_or_default()));
        }
        let mut records = message[start..self.end].to_vec();
        for &(place, ttl) in &self.ttls {
            records[usize::from(place)..][..4].copy_from_slice(&ttl.to_be_bytes());
        }
        let ttls: Vec<u16> = self.ttls.iter().map(|(place, _)| *place).collect();
        Read::Good(Kept::new(&Parts {
            key: key.as_bytes(),
            records: &records,
            ttls: &ttls,
            counts: self.counts,
            code,
            seconds,
            extended_error: self.extended_error,
        }))
    }
}

impl<'a> Record<'a> {
    fn read(message: &'a [u8], at: usize) -> Option<Self> {
        let kind_at = skip_name(message, at)?;
        let head: &[u8; 10] = message.get(kind_at..)?.first_chunk()?;
        let ttl = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let data_at = kind_at + 10;
        let end = data_at + usize::from(u16::from_be_bytes([head[8], head[9]]));
        Some(Self {
            kind: u16::from_be_bytes([head[0], head[1]]),
            ttl_at: kind_at + 4,
            // RFC 2181, section 8: with the highest bit set it is 0.
            ttl: if ttl > i32::MAX.cast_unsigned() { 0 } else { ttl },
            data: message.get(data_at..end)?,
            end,
        })
    }
}

/// Where the name at `at` ends. Its pointers lead backwards only, so that whoever follows them comes to an end.
fn skip_name(message: &[u8], at: usize) -> Option<usize> {
    let (mut here, mut limit, mut end, mut length) = (at, at, None, 0);
    loop {
        let byte = usize::from(*message.get(here)?);
        match byte {
            0 => return Some(end.unwrap_or(here + 1)),
            1..=63 => {
                here += 1 + byte;
                length += 1 + byte;
                if length >= NAME_BYTES_MAX {
                    return None;
                }
            }
            192.. => {
                let target = (byte & 0x3f) << 8 | usize::from(*message.get(here + 1)?);
                end = end.or(Some(here + 2));
                if target < HEADER_BYTES || target >= limit {
                    return None;
                }
                (here, limit) = (target, target);
            }
            _ => return None,
        }
    }
}

/// Whether a record leads to a forbidden address: by A, AAAA, or a hint of SVCB and HTTPS (RFC 9460, section 7.3).
fn leads_to(record: &Record<'_>, forbidden: &impl Fn(IpAddr) -> bool) -> bool {
    match record.kind {
        KIND_A => addresses::<4>(record.data).any(forbidden),
        KIND_AAAA => addresses::<16>(record.data).any(forbidden),
        KIND_SVCB | KIND_HTTPS => hints(record.data).is_some_and(|(four, six)| {
            addresses::<4>(four).any(forbidden) || addresses::<16>(six).any(forbidden)
        }),
        _ => false,
    }
}

fn addresses<const N: usize>(data: &[u8]) -> impl Iterator<Item = IpAddr>
where
    IpAddr: From<[u8; N]>,
{
    data.as_chunks::<N>().0.iter().map(|octets| IpAddr::from(*octets))
}

/// The hints for both families. `None` if the record is broken.
fn hints(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = data.get(2..)?;
    loop {
        let label = usize::from(*rest.first()?);
        rest = rest.get(1 + label..)?;
        if label == 0 {
            break;
        }
    }
    let (mut four, mut six): (&[u8], &[u8]) = (&[], &[]);
    while !rest.is_empty() {
        let &[key_high, key_low, high, low] = rest.first_chunk()?;
        let end = 4 + usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(4..end)?;
        match u16::from_be_bytes([key_high, key_low]) {
            PARAM_IPV4_HINT => four = value,
            PARAM_IPV6_HINT => six = value,
            _ => {}
        }
        rest = &rest[end..];
    }
    Some((four, six))
}

#[cfg(test)]
mod tests {
    use super::super::kept::Age;
    use super::super::question::Asked;
    use super::*;
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::opt::EdnsOption;
    use hickory_proto::rr::rdata::{A, CNAME, NS, SOA};
    use hickory_proto::rr::{Name, RData, Record as WireRecord, RecordType};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn query(edns: bool) -> Vec<u8> {
        let mut message = Message::new(0x4242, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name("WwW.example."), RecordType::A));
        if edns {
            message.set_edns(Edns::new());
        }
        message.to_vec().unwrap()
    }

    fn response() -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name("www.example."), RecordType::A));
        message
    }

    fn address(owner: &str, ttl: u32, last: u8) -> WireRecord {
        WireRecord::from_rdata(name(owner), ttl, RData::A(A::new(192, 0, 2, last)))
    }

    fn soa(ttl: u32, minimum: u32) -> WireRecord {
        let data = SOA::new(name("ns.example."), name("who.example."), 1, 2, 3, 4, minimum);
        WireRecord::from_rdata(name("example."), ttl, RData::SOA(data))
    }

    fn never(_: IpAddr) -> bool {
        false
    }

    fn read_message(message: &Message) -> Result<Read, Unfit> {
        let key = Asked::read(&query(false)).unwrap().key;
        read(&message.to_vec().unwrap(), &key, None, never)
    }

    fn good(message: &Message) -> Kept {
        match read_message(message) {
            Ok(Read::Good(kept)) => kept,
            other => panic!("{other:?}"),
        }
    }

    fn written(kept: &Kept, edns: bool, age: Age, limit: usize) -> Message {
        let mut buffer = query(edns);
        let asked = Asked::read(&buffer).unwrap();
        buffer.resize(4096, 0xaa);
        let length = kept.write(&mut buffer, &asked, age, limit).unwrap();
        assert!(length <= limit);
        Message::from_vec(&buffer[..length]).unwrap()
    }

    #[test]
    fn an_answer_is_given_with_the_askers_id_name_and_the_time_that_is_left() {
        let mut message = response();
        let alias = RData::CNAME(CNAME(name("web.example.")));
        message.add_answer(WireRecord::from_rdata(name("www.example."), 300, alias));
        message.add_answer(address("web.example.", 60, 7));
        message.metadata.authentic_data = true;
        message.set_edns(Edns::new());
        let kept = good(&message);
        assert_eq!(kept.seconds, 60);
        let given = written(&kept, true, Age::Seconds(10), 1232);
        assert_eq!(given.metadata.id, 0x4242);
        assert!(given.queries[0].name().eq_case(&name("WwW.example.")));
        assert_eq!(given.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [290, 50]);
        assert_eq!(given.answers[1].data, message.answers[1].data);
        let header = &given.metadata;
        assert!(header.recursion_available && header.recursion_desired);
        assert!(!header.authoritative && !header.authentic_data && !header.truncation);
        assert_eq!(given.edns.as_ref().map(Edns::max_payload), Some(1232));
        assert!(written(&kept, false, Age::Seconds(0), 512).edns.is_none());
        let stale = written(&kept, true, Age::Stale, 1232);
        assert!(stale.answers.iter().all(|record| record.ttl == 30));
        let option = EdnsOption::Unknown(15, vec![0, 3]);
        assert_eq!(stale.edns.unwrap().options().get(15.into()), Some(&option));
    }

    #[test]
    fn what_does_not_fit_is_cut_to_the_question() {
        let mut message = response();
        message.add_answers((0..40).map(|last| address("www.example.", 60, last)));
        let kept = good(&message);
        let cut = written(&kept, false, Age::Seconds(0), 512);
        assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.queries.len() == 1);
        let whole = written(&kept, false, Age::Seconds(0), 4096);
        assert!(!whole.metadata.truncation && whole.answers.len() == 40);
        let mut short = query(true);
        let asked = Asked::read(&short).unwrap();
        let before = short.clone();
        short.truncate(asked.question_end + 3);
        assert_eq!(kept.write(&mut short, &asked, Age::Seconds(0), 1232), None);
        assert_eq!(short, before[..short.len()]);
    }

    #[test]
    fn a_no_holds_as_long_as_its_zone_says() {
        let check = |records: &[WireRecord], code: ResponseCode, seconds: u32| {
            let mut message = response();
            message.metadata.response_code = code;
            message.add_authorities(records.to_vec());
            let kept = good(&message);
            assert_eq!(kept.seconds, seconds, "{records:?}");
            let given = written(&kept, false, Age::Seconds(1), 512);
            assert_eq!(given.metadata.response_code, code);
            assert!(given.authorities.iter().all(|record| record.ttl == seconds - 1));
        };
        check(&[soa(900, 60)], ResponseCode::NXDomain, 60);
        check(&[soa(30, 60)], ResponseCode::NoError, 30);
        check(&[soa(1_000_000, 1_000_000)], ResponseCode::NXDomain, NEGATIVE_SECONDS_MAX);
        check(&[], ResponseCode::NXDomain, 0);
        check(&[], ResponseCode::NoError, 0);
    }

    #[test]
    fn times_are_bounded() {
        let check = |ttl: u32, seconds: u32| {
            let mut message = response();
            message.add_answer(address("www.example.", ttl, 1));
            let kept = good(&message);
            assert_eq!(
                (kept.seconds, written(&kept, false, Age::Seconds(0), 512).answers[0].ttl),
                (seconds, seconds)
            );
        };
        check(0, 0);
        check(90_000, TTL_SECONDS_MAX);
        check(0x8000_0001, 0);
    }

    #[test]
    fn what_does_not_answer_is_told_apart() {
        let check = |change: &dyn Fn(&mut Message), unfit: Unfit| {
            let mut message = response();
            change(&mut message);
            assert_eq!(read_message(&message), Err(unfit));
        };
        check(&|m| m.metadata.message_type = MessageType::Query, Unfit::Strange);
        check(&|m| m.queries[0] = Query::query(name("www.example.org."), RecordType::A), Unfit::Strange);
        check(&|m| m.queries[0] = Query::query(name("www.example."), RecordType::AAAA), Unfit::Strange);
        check(&|m| m.queries.clear(), Unfit::Strange);
        check(&|m| m.metadata.truncation = true, Unfit::Cut);
        check(&|m| m.metadata.response_code = ResponseCode::FormErr, Unfit::NoEdns);
        check(&|m| m.metadata.response_code = ResponseCode::Refused, Unfit::Refused(None));
        let servers = || WireRecord::from_rdata(name("example."), 60, RData::NS(NS(name("ns.example."))));
        check(&|m| m.authorities.push(servers()), Unfit::Refused(None));
        let bogus = |m: &mut Message| {
            m.metadata.response_code = ResponseCode::ServFail;
            m.edns.get_or_insert_default().options_mut().insert(EdnsOption::Unknown(15, vec![0, 6, b'x']));
        };
        check(&bogus, Unfit::Refused(Some(6)));
        let mut delegated = response();
        delegated.metadata.authoritative = true;
        delegated.add_authority(servers());
        assert_eq!(good(&delegated).seconds, 0, "an authoritative server means what it says");
    }

    #[test]
    fn the_case_counts_where_it_was_chosen_at_random() {
        let key = Asked::read(&query(false)).unwrap().key;
        let mut message = response();
        message.add_answer(address("www.example.", 60, 1));
        let bytes = message.to_vec().unwrap();
        assert!(read(&bytes, &key, Some(key.question()), never).is_ok());
        let sent = key.question().to_ascii_uppercase();
        assert_eq!(read(&bytes, &key, Some(&sent), never), Err(Unfit::Strange));
    }

    #[test]
    fn forbidden_addresses_take_the_answer_with_them() {
        let inside = |address: IpAddr| address.to_string().ends_with(".9");
        let key = Asked::read(&query(false)).unwrap().key;
        let read_as = |message: &Message| read(&message.to_vec().unwrap(), &key, None, inside);
        let mut message = response();
        message.add_answer(address("www.example.", 60, 1));
        message.add_answer(address("www.example.", 20, 9));
        assert_eq!(read_as(&message), Ok(Read::Blocked(Kept::blocked(key.as_bytes(), 20))));
        let mut message = response();
        message.add_answer(address("www.example.", 60, 1));
        message.add_additional(address("ns.example.", 60, 2));
        message.add_additional(address("ns.example.", 60, 9));
        message.add_additional(address("ns.example.", 60, 3));
        let Ok(Read::Good(kept)) = read_as(&message) else { panic!("the answer itself is good") };
        let given = written(&kept, false, Age::Seconds(0), 512);
        assert_eq!((given.answers.len(), given.additionals.len()), (1, 1));
        let mut hinted = response();
        let alpn = [&[0, 1, 0][..], &[0, 1, 0, 3, 2, b'h', b'2'], &[0, 4, 0, 8, 192, 0, 2, 1, 192, 0, 2, 9]]
            .concat();
        let data =
            RData::Unknown { code: RecordType::HTTPS, rdata: hickory_proto::rr::rdata::NULL::with(alpn) };
        hinted.add_answer(WireRecord::from_rdata(name("www.example."), 60, data));
        assert!(matches!(read_as(&hinted), Ok(Read::Blocked(_))));
    }

    #[test]
    fn broken_messages_are_strange_and_nothing_worse() {
        let mut message = response();
        message.add_answer(address("www.example.", 60, 1));
        message.add_authority(soa(60, 60));
        message.set_edns(Edns::new());
        let whole = message.to_vec().unwrap();
        let key = Asked::read(&query(false)).unwrap().key;
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length], &key, None, never), Err(Unfit::Strange), "cut to {length}");
        }
        for at in HEADER_BYTES + key.question().len()..whole.len() {
            for value in [0x00, 0x3f, 0x40, 0xc0, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                if let Ok(Read::Good(kept)) = read(&broken, &key, None, never) {
                    let mut buffer = query(true);
                    let asked = Asked::read(&buffer).unwrap();
                    buffer.resize(4096, 0);
                    assert!(kept.write(&mut buffer, &asked, Age::Seconds(7), 1232).is_some());
                }
            }
        }
    }
}
