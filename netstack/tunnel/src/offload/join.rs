//! Super-packets out of the packets of one batch.
//!
//! A packet joins the open group of its flow, or closes it and starts another: packets of a flow leave in the order in
//! which they came. Checksums are verified only when a packet finds company; a packet that leaves alone leaves as it
//! came, and the kernel verifies it. What a packet is and what continues it is told by [`super::flow`].

use std::io::IoSlice;
use std::ops::Range;

use super::checksum::Sum;
use super::flow::{Candidate, Key, Layout};
use super::{IPV4_BYTES, IPV6_BYTES, Joins, Kind, VNET_HEADER_BYTES, VnetHeader, flags, set_word};

/// Flows that are joined at one time. A batch has a few dozen packets: with more flows, hardly any has company.
const OPEN_GROUPS: usize = 16;

/// Packets of one super-packet: what the kernel takes of UDP (`UDP_MAX_SEGMENTS` before 6.7), and more than what
/// 64 KiB hold at the size of Ethernet.
const GROUP_PACKETS: usize = 64;

/// What an IPv4 header can say, and what a kernel without BIG TCP keeps for IPv6 as well.
const GROUP_BYTES: usize = 65_535;

/// Joins the packets of a batch. Kept from batch to batch: it allocates until the largest batch is known.
pub(crate) struct Joiner {
    joins: Joins,
    /// Every packet of the batch in the order of coming.
    parts: Vec<Part>,
    /// In the order of their first packets.
    groups: Vec<Group>,
    open: Vec<Open>,
    /// Which open group is closed next for a new flow.
    victim: usize,
}

/// A packet in the arena, and the next of its group.
struct Part {
    range: Range<usize>,
    next: usize,
}

/// What is written at once.
struct Group {
    first: usize,
    last: usize,
    count: u16,
    /// Only of a packet that can have company.
    layout: Option<Layout>,
    /// Payload of each packet but the last.
    stride: usize,
    /// The whole as one packet.
    bytes: usize,
    /// The sequence number of the packet that continues it.
    sequence: u32,
    /// PSH and FIN of the last packet.
    ending: u8,
    /// Whether the checksums of the first packet were found right.
    verified: bool,
    /// What is written before it.
    vnet: [u8; VNET_HEADER_BYTES],
}

/// A group that takes packets.
struct Open {
    key: Key,
    group: usize,
}

impl Joiner {
    /// An empty batch.
    pub(crate) fn new(joins: Joins) -> Self {
        let open = Vec::with_capacity(OPEN_GROUPS);
        Self { joins, parts: Vec::new(), groups: Vec::new(), open, victim: 0 }
    }

    /// What is joined from the next packet on.
    pub(crate) fn set_joins(&mut self, joins: Joins) {
        self.joins = joins;
    }

    /// Adds a packet, from its IP header to the end that the header tells, without padding.
    ///
    /// # Panics
    /// If the range is not in the arena.
    pub(crate) fn add(&mut self, arena: &[u8], range: Range<usize>) {
        let packet = &arena[range.clone()];
        match Candidate::of(packet, self.joins) {
            Candidate::Unknown => {
                self.open.retain(|open| !open.key.may_be_of(packet));
                self.start(range, None, packet);
            }
            Candidate::Alone(key) => {
                self.close(self.find(&key));
                self.start(range, None, packet);
            }
            Candidate::Joinable(key, layout) => self.add_joinable(arena, range, key, layout),
        }
    }

    /// Writes what was added, each packet or super-packet in one call: virtio-net header, packet, more payload.
    /// Headers in the arena, which is the one of [`Self::add`], are changed. Then the batch is empty.
    pub(crate) fn flush(&mut self, arena: &mut [u8], mut write: impl FnMut(&[IoSlice<'_>])) {
        for group in &mut self.groups {
            if let (Some(layout), 2..) = (group.layout, group.count) {
                let first = &mut arena[self.parts[group.first].range.clone()];
                group.finish(layout, first);
                group.vnet = group.header(layout, first).write();
            }
        }
        let mut slices = [IoSlice::new(&[]); GROUP_PACKETS + 1];
        for group in &self.groups {
            let first = &self.parts[group.first];
            let slices = &mut slices[..=usize::from(group.count)];
            slices[0] = IoSlice::new(&group.vnet);
            slices[1] = IoSlice::new(&arena[first.range.clone()]);
            let header = group.layout.map_or(0, |layout| layout.header);
            let mut next = first.next;
            for slice in &mut slices[2..] {
                let part = &self.parts[next];
                *slice = IoSlice::new(&arena[part.range.start + header..part.range.end]);
                next = part.next;
            }
            write(slices);
        }
        self.parts.clear();
        self.groups.clear();
        self.open.clear();
    }

    fn add_joinable(&mut self, arena: &[u8], range: Range<usize>, key: Key, layout: Layout) {
        let packet = &arena[range.clone()];
        let ends = layout.flags(packet) & (flags::PSH | flags::FIN) != 0;
        let Some(open) = self.find(&key) else {
            self.start(range, Some(layout), packet);
            if !ends {
                self.open(key);
            }
            return;
        };
        let index = self.open[open].group;
        let group = &mut self.groups[index];
        let first = &arena[self.parts[group.first].range.clone()];
        match group.takes(layout, first, packet) {
            Verdict::Joins => {
                let part = self.parts.len();
                self.parts[group.last].next = part;
                group.push(part, layout, packet);
                if ends || group.is_full(layout, packet) {
                    self.close(Some(open));
                }
                self.parts.push(Part { range, next: part });
            }
            Verdict::Starts if !ends => {
                self.open[open].group = self.groups.len();
                self.start(range, Some(layout), packet);
            }
            Verdict::Starts | Verdict::Damaged => {
                self.close(Some(open));
                self.start(range, None, packet);
            }
        }
    }

    /// A group of one packet, the last of the order.
    fn start(&mut self, range: Range<usize>, layout: Option<Layout>, packet: &[u8]) {
        let part = self.parts.len();
        self.parts.push(Part { range, next: part });
        let stride = layout.map_or(0, |layout| packet.len() - layout.header);
        self.groups.push(Group {
            first: part,
            last: part,
            count: 1,
            layout,
            stride,
            bytes: packet.len(),
            sequence: layout.map_or(0, |layout| next_sequence(layout, packet)),
            ending: 0,
            verified: false,
            vnet: [0; VNET_HEADER_BYTES],
        });
    }

    /// The last group takes packets of the flow.
    fn open(&mut self, key: Key) {
        let open = Open { key, group: self.groups.len() - 1 };
        if self.open.len() < OPEN_GROUPS {
            self.open.push(open);
        } else {
            self.open[self.victim % OPEN_GROUPS] = open;
            self.victim = self.victim.wrapping_add(1);
        }
    }

    fn find(&self, key: &Key) -> Option<usize> {
        self.open.iter().position(|open| open.key == *key)
    }

    fn close(&mut self, open: Option<usize>) {
        if let Some(open) = open {
            self.open.swap_remove(open);
        }
    }
}

/// Whether a packet continues a group.
enum Verdict {
    Joins,
    /// It does not, but another may continue it.
    Starts,
    /// Its own checksum is wrong.
    Damaged,
}

impl Group {
    fn takes(&mut self, layout: Layout, first: &[u8], packet: &[u8]) -> Verdict {
        let payload = packet.len() - layout.header;
        if self.layout != Some(layout)
            || payload > self.stride
            || self.bytes + payload > GROUP_BYTES
            || layout.sequence(packet) != self.sequence
            || !layout.continues(first, packet, self.count)
        {
            return Verdict::Starts;
        }
        if !self.verified && !layout.is_valid(first) {
            return Verdict::Starts;
        }
        self.verified = true;
        if layout.is_valid(packet) { Verdict::Joins } else { Verdict::Damaged }
    }

    fn push(&mut self, part: usize, layout: Layout, packet: &[u8]) {
        self.last = part;
        self.count += 1;
        self.bytes += packet.len() - layout.header;
        self.sequence = next_sequence(layout, packet);
        self.ending = layout.flags(packet) & (flags::PSH | flags::FIN);
    }

    /// After the last packet that was pushed.
    fn is_full(&self, layout: Layout, packet: &[u8]) -> bool {
        packet.len() - layout.header < self.stride || usize::from(self.count) == GROUP_PACKETS
    }

    /// Makes the first packet's headers those of the whole. The checksum becomes the sum of the pseudo-header.
    fn finish(&self, layout: Layout, packet: &mut [u8]) {
        let total = u16::try_from(self.bytes).expect("a group is bounded by GROUP_BYTES");
        if layout.is_ipv4() {
            set_word(packet, 2, total);
            set_word(packet, 10, 0);
            let checksum = Sum::of_header(&packet[..IPV4_BYTES]).checksum();
            packet[10..12].copy_from_slice(&checksum);
        } else {
            set_word(packet, 4, total - u16::try_from(IPV6_BYTES).expect("forty"));
        }
        let length = total - u16::try_from(layout.transport).expect("twenty or forty");
        if layout.kind == Kind::Udp {
            set_word(packet, layout.transport + 4, length);
        } else {
            packet[layout.transport + 13] |= self.ending;
        }
        let checksum = layout.transport + layout.checksum();
        let sum = layout.pseudo_header(packet, length).folded();
        packet[checksum..checksum + 2].copy_from_slice(&sum);
    }

    fn header(&self, layout: Layout, packet: &[u8]) -> VnetHeader {
        let field = |value: usize| u16::try_from(value).expect("inside of a packet");
        VnetHeader {
            header_bytes: field(layout.header),
            segment_bytes: field(self.stride),
            checksum_start: field(layout.transport),
            checksum_offset: field(layout.checksum()),
            ..VnetHeader::joined(layout.kind, layout.flags(packet) & flags::CWR != 0)
        }
    }
}

/// The sequence number after the packet's payload; zero in UDP, where each continues each.
fn next_sequence(layout: Layout, packet: &[u8]) -> u32 {
    if layout.kind == Kind::Udp {
        return 0;
    }
    let payload = u32::try_from(packet.len() - layout.header).expect("a length of 16 bits");
    layout.sequence(packet).wrapping_add(payload)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{ProptestConfig, Strategy, any, proptest};

    use super::super::packets::{Packet, any_super, is_valid};
    use super::super::{Cut, Joiner, Joins, VnetHeader};

    const BOTH: Joins = Joins { tcp: true, udp: true };

    /// What a batch is written as: virtio-net header and packet.
    fn join(joiner: &mut Joiner, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
        let mut arena = vec![0xee; 40];
        for packet in packets {
            let start = arena.len();
            arena.extend(packet);
            let end = arena.len();
            arena.extend([0xee; 33]);
            joiner.add(&arena, start..end);
        }
        let mut written = Vec::new();
        joiner.flush(&mut arena, |slices| {
            let header = VnetHeader::read(slices[0][..].try_into().unwrap());
            written.push((header, slices[1..].iter().flat_map(|slice| slice.to_vec()).collect()));
        });
        written
    }

    /// What the kernel makes of it.
    fn cut(written: &[(VnetHeader, Vec<u8>)]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for (header, packet) in written {
            let cut = Cut::new(header, packet).unwrap();
            for index in 0..cut.count() {
                let mut out = vec![0; cut.bytes(index)];
                cut.write(index, &mut out);
                packets.push(out);
            }
        }
        packets
    }

    /// How many packets are in each write, and that the kernel cuts them into what was joined.
    #[track_caller]
    fn check(packets: &[Vec<u8>], expect: &[usize]) {
        let written = join(&mut Joiner::new(BOTH), packets);
        let counts: Vec<_> =
            written.iter().map(|(header, packet)| Cut::new(header, packet).unwrap().count()).collect();
        assert_eq!(counts, expect);
        let (mut before, mut after) = (packets.to_vec(), cut(&written));
        before.sort();
        after.sort();
        assert_eq!(before, after);
    }

    /// Five segments of 100 bytes and one of 40.
    fn segments(packet: &Packet) -> Vec<Packet> {
        let sample = Packet { payload: super::super::packets::numbered(540), ..packet.clone() };
        sample.segments(100)
    }

    /// A change of the third of six segments.
    #[track_caller]
    fn check_third(packet: &Packet, change: impl Fn(&mut Packet), expect: &[usize]) {
        let mut segments = segments(packet);
        change(&mut segments[2]);
        check(&segments.iter().map(Packet::build).collect::<Vec<_>>(), expect);
    }

    fn kinds() -> [Packet; 4] {
        [Packet::tcp(false, 0), Packet::tcp(true, 0), Packet::udp(false, 0), Packet::udp(true, 0)]
    }

    #[test]
    fn segments_of_a_flow_are_joined() {
        for packet in kinds() {
            check_third(&packet, |_| {}, &[6]);
        }
    }

    #[test]
    fn what_differs_is_not_joined() {
        for packet in kinds() {
            let apart: &[usize] = &[2, 1, 3];
            check_third(&packet, |third| third.tos ^= 1, apart);
            check_third(&packet, |third| third.ttl -= 1, apart);
            check_third(&packet, |third| third.payload.push(1), if packet.udp { &[2, 2, 2] } else { apart });
            check_third(&packet, |third| third.payload.truncate(99), &[3, 3]);
            check_third(&packet, |third| third.payload.clear(), apart);
            if packet.v6 {
                check_third(&packet, |third| third.label += 1, apart);
            } else {
                check_third(&packet, |third| third.frozen = true, apart);
                check_third(&packet, |third| third.identification += 1, apart);
            }
        }
    }

    #[test]
    fn tcp_that_differs_is_not_joined() {
        for packet in [Packet::tcp(false, 0), Packet::tcp(true, 0)] {
            let apart: &[usize] = &[2, 1, 3];
            check_third(&packet, |third| third.sequence += 1, apart);
            check_third(&packet, |third| third.acknowledged += 1, apart);
            check_third(&packet, |third| third.window += 1, apart);
            check_third(&packet, |third| third.options[7] = 9, apart);
            check_third(&packet, |third| third.options.truncate(8), apart);
            for flag in [0x02, 0x04, 0x20, 0x40] {
                check_third(&packet, |third| third.flags |= flag, apart);
            }
            check_third(&packet, |third| third.flags = 0, apart);
            // The end of a super-packet, and the start of one.
            check_third(&packet, |third| third.flags |= 0x08, &[3, 3]);
            check_third(&packet, |third| third.flags |= 0x01, &[3, 3]);
            check_third(&packet, |third| third.flags |= 0x80, &[2, 4]);
        }
    }

    #[test]
    fn the_first_segment_may_have_cwr_and_the_kernel_is_told() {
        let mut sample = segments(&Packet::tcp(false, 0));
        sample[0].flags |= 0x80;
        let written = join(&mut Joiner::new(BOTH), &sample.iter().map(Packet::build).collect::<Vec<_>>());
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].0.kind, 0x81);
    }

    #[test]
    fn a_packet_that_may_not_be_fragmented_is_joined_whatever_its_identification() {
        let mut sample = segments(&Packet { frozen: true, ..Packet::tcp(false, 0) });
        sample[2].identification = 0;
        let written = join(&mut Joiner::new(BOTH), &sample.iter().map(Packet::build).collect::<Vec<_>>());
        assert_eq!(written.len(), 1);
        let mut last = 99;
        for packet in cut(&written) {
            let identification = u16::from_be_bytes([packet[4], packet[5]]);
            assert_eq!(identification, last + 1);
            last = identification;
        }
    }

    #[test]
    fn a_wrong_checksum_leaves_as_it_came() {
        for packet in kinds() {
            let sample: Vec<_> = segments(&packet).iter().map(Packet::build).collect();
            let damaged = |index: usize, at: usize| {
                let mut sample = sample.clone();
                sample[index][at] ^= 0x10;
                sample
            };
            let last = sample[0].len() - 1;
            check(&damaged(2, last), &[2, 1, 3]);
            check(&damaged(0, last), &[1, 5]);
            if !packet.v6 {
                check(&damaged(2, 10), &[2, 1, 3]);
                check(&damaged(0, 11), &[1, 5]);
            }
        }
    }

    #[test]
    fn udp_without_a_checksum_or_with_another_length_is_not_joined() {
        let sample: Vec<_> = segments(&Packet::udp(false, 0)).iter().map(Packet::build).collect();
        for (at, bytes) in [(26, [0, 0]), (24, [0, 50])] {
            let mut sample = sample.clone();
            sample[2][at..at + 2].copy_from_slice(&bytes);
            check(&sample, &[2, 1, 3]);
        }
    }

    #[test]
    fn only_what_is_asked_for_is_joined() {
        let mut joiner = Joiner::new(Joins { tcp: false, udp: true });
        let built = |packet: &Packet| segments(packet).iter().map(Packet::build).collect::<Vec<_>>();
        assert_eq!(join(&mut joiner, &built(&Packet::tcp(true, 0))).len(), 6);
        assert_eq!(join(&mut joiner, &built(&Packet::udp(true, 0))).len(), 1);
        joiner.set_joins(Joins { tcp: true, udp: false });
        assert_eq!(join(&mut joiner, &built(&Packet::tcp(true, 0))).len(), 1);
        assert_eq!(join(&mut joiner, &built(&Packet::udp(true, 0))).len(), 6);
    }

    #[test]
    fn what_hides_its_ports_is_not_overtaken() {
        for packet in kinds() {
            let mut sample: Vec<_> = segments(&packet).iter().map(Packet::build).collect();
            if packet.v6 {
                // An extension header: whatever it is of has these addresses.
                sample[2][6] = 60;
            } else {
                // The first fragment of more.
                sample[2][6] = 0x20;
            }
            check(&sample, &[2, 1, 3]);
        }
        // Another protocol of the same hosts has an order of its own.
        let mut sample: Vec<_> = segments(&Packet::tcp(false, 0)).iter().map(Packet::build).collect();
        sample[2][9] = 1;
        sample[2][6] = 0;
        let expect = [2, 1, 3];
        let written = join(&mut Joiner::new(BOTH), &sample);
        assert_eq!(written.len(), expect.len(), "the sequence has a gap where the other protocol is");
        let mut icmp = sample.remove(2);
        icmp[6] = 0;
        let mut whole: Vec<_> = segments(&Packet::tcp(false, 0)).iter().map(Packet::build).collect();
        whole.insert(2, icmp);
        check(&whole, &[6, 1]);
    }

    #[test]
    fn a_super_packet_is_not_longer_than_ip_allows_nor_of_more_packets_than_the_kernel_takes() {
        let sample = Packet::tcp(false, 65_000);
        let mut packets = sample.segments(1368);
        let more = Packet { sequence: 1000 + 65_000, identification: 148, ..sample };
        assert_eq!(packets.len(), 48);
        packets[47].payload = super::super::packets::numbered(1368);
        let more =
            Packet { sequence: packets[47].sequence + 1368, payload: more.payload[..1368].to_vec(), ..more };
        packets.push(more);
        check(&packets.iter().map(Packet::build).collect::<Vec<_>>(), &[47, 2]);
        let small = Packet::udp(true, 10 * 150).segments(10);
        check(&small.iter().map(Packet::build).collect::<Vec<_>>(), &[64, 64, 22]);
    }

    #[test]
    fn many_flows_at_a_time_are_bounded_and_none_is_lost() {
        for flows in [super::OPEN_GROUPS, super::OPEN_GROUPS + 1] {
            let flows = u16::try_from(flows).unwrap();
            let each = (0..flows).map(|port| segments(&Packet { ports: (port, 1), ..Packet::tcp(true, 0) }));
            let each: Vec<_> = each.collect();
            let turns = (0..6).flat_map(|turn| each.iter().map(move |flow| flow[turn].build()));
            let bounded = usize::from(flows) == super::OPEN_GROUPS;
            let expect = if bounded { vec![6; super::OPEN_GROUPS] } else { vec![1; 6 * usize::from(flows)] };
            check(&turns.collect::<Vec<_>>(), &expect);
        }
    }

    /// What may befall a packet of a random batch.
    #[derive(Clone, Copy, Debug)]
    struct Fate {
        flow: usize,
        bytes: usize,
        change: u8,
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        let bytes = proptest::sample::select(vec![100, 100, 100, 100, 100, 100, 60, 0, 101]);
        let fate =
            (0..5_usize, bytes, 0..60_u8).prop_map(|(flow, bytes, change)| Fate { flow, bytes, change });
        proptest::collection::vec(fate, 0..120)
    }

    /// Five flows of different hosts, each packet with its fate.
    fn batch(fates: &[Fate]) -> Vec<Vec<u8>> {
        let mut flows = kinds().to_vec();
        flows.push(Packet::tcp(false, 0));
        for (flow, source) in flows.iter_mut().zip(10..) {
            flow.source = source;
        }
        let mut packets = Vec::new();
        for fate in fates {
            let flow = &mut flows[fate.flow];
            let mut packet = Packet { payload: super::super::packets::numbered(fate.bytes), ..flow.clone() };
            flow.sequence = flow.sequence.wrapping_add(u32::try_from(fate.bytes).unwrap());
            flow.identification = flow.identification.wrapping_add(1);
            match fate.change {
                0 => packet.tos ^= 3,
                1 => packet.ttl -= 1,
                2 => packet.flags |= 0x08,
                3 => packet.flags |= 0x01,
                4 => packet.flags |= 0x80,
                5 => packet.flags |= 0x40,
                6 => packet.flags |= 0x02,
                7 => packet.sequence -= 1,
                8 => packet.window += 1,
                9 => packet.acknowledged += 1,
                10 => packet.identification += 5,
                11 if !packet.udp => packet.options[4] ^= 1,
                _ => {}
            }
            let mut built = packet.build();
            let transport = packet.transport();
            match fate.change {
                12 => built[transport + packet.checksum_offset()] ^= 1,
                13 => built.push(0),
                14 if !packet.v6 => built[6] |= 0x20,
                15 => built[6] = 44,
                16 if packet.udp => built[transport + 6..transport + 8].fill(0),
                17 if !packet.v6 => built[10] ^= 1,
                18 => built[0] ^= 0x01,
                _ => {}
            }
            packets.push(built);
        }
        packets
    }

    /// The packets of each source, in order.
    fn by_source(packets: &[Vec<u8>]) -> BTreeMap<u8, Vec<Vec<u8>>> {
        let mut sources = BTreeMap::<u8, Vec<_>>::new();
        for packet in packets {
            let source = if packet[0] >> 4 == 6 { packet[23] } else { packet[15] };
            sources.entry(source).or_default().push(packet.clone());
        }
        sources
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn join_gives_back_what_was_cut((packet, segment) in any_super()) {
            let (header, bytes) = packet.build_super(segment);
            let packets: Vec<_> = packet.segments(segment.into()).iter().map(Packet::build).collect();
            let written = join(&mut Joiner::new(BOTH), &packets);
            if packets.len() == 1 {
                assert_eq!(written, [(VnetHeader::SINGLE, packets[0].clone())]);
            } else {
                assert_eq!(written, [(header, bytes)]);
            }
        }

        #[test]
        fn the_packets_of_a_flow_stay_what_they_were_in_their_order(batches in proptest::collection::vec(fates(), 1..4)) {
            let mut joiner = Joiner::new(BOTH);
            for fates in batches {
                let packets = batch(&fates);
                let written = join(&mut joiner, &packets);
                assert_eq!(by_source(&cut(&written)), by_source(&packets));
                for (header, packet) in &written {
                    let count = Cut::new(header, packet).unwrap().count();
                    assert!(count == 1 || cut(&[(*header, packet.clone())]).iter().all(|packet| is_valid(packet)));
                }
            }
        }

        #[test]
        fn random_bytes_never_panic(packets in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..120)), 0..20,
        )) {
            let mut likely = Vec::new();
            for (v4, mut bytes) in packets {
                let length = bytes.len();
                if v4 && length > 20 {
                    bytes[0] = 0x45;
                    bytes[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
                    (bytes[6], bytes[7], bytes[9]) = (0, 0, if bytes[9] < 128 { 6 } else { 17 });
                } else if length > 40 {
                    bytes[0] = 0x60;
                    bytes[4..6].copy_from_slice(&u16::try_from(length - 40).unwrap().to_be_bytes());
                    bytes[6] = if bytes[6] < 128 { 6 } else { 17 };
                }
                likely.push(bytes);
            }
            let count = likely.len();
            assert_eq!(join(&mut Joiner::new(BOTH), &likely).len(), count, "random flows have no company");
        }
    }
}
