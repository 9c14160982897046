//! The published vectors.

use super::model;
use crate::{Cipher, Job, Key, TAG_BYTES};

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// RFC 8439, appendix A.1: key, number of the block, and the block. The nonce is zero.
const BLOCKS: [(&str, usize, &str); 3] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000000",
        1,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
         29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        "0000000000000000000000000000000000000000000000000000000000000001",
        1,
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a\
         8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    ),
    (
        "00ff000000000000000000000000000000000000000000000000000000000000",
        2,
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca\
         13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
];

/// A sealed text of zeros is the key stream.
#[test]
fn blocks_of_the_standard() {
    for cipher in Cipher::available() {
        let keys = BLOCKS.map(|(key, ..)| Key::new(bytes(key).as_slice().try_into().unwrap()));
        let mut packets = vec![[0; 128 + TAG_BYTES]; 12];
        let mut jobs: Vec<Job<'_>> = packets
            .iter_mut()
            .enumerate()
            .map(|(number, bytes)| Job { key: &keys[number % 3], counter: 0, bytes })
            .collect();
        cipher.seal_together(&mut jobs);
        for (number, packet) in packets.iter().enumerate() {
            let (_, block, expected) = BLOCKS[number % 3];
            assert_eq!(packet[block * 64 - 64..block * 64], bytes(expected), "{cipher}, packet {number}");
        }
    }
}

/// RFC 8439, section 2.3.2 and appendix A.1 number 5: with a nonce, and block 0.
#[test]
fn the_model_makes_the_blocks_of_the_standard() {
    let key: [u32; 8] = std::array::from_fn(|word| 0x0302_0100 + word as u32 * 0x0404_0404);
    let block = model::block(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
    assert_eq!(block[..4], [0xe4e7_f110, 0x1559_3bd1, 0x1fdd_0f50, 0xc471_20a3]);
    assert_eq!(block[12..], [0xd19c_12b5, 0xb94e_16de, 0xe883_d0cb, 0x4e3c_50a2]);
    let block = model::block(&[0; 8], 0, [0, 0, 0x0200_0000]);
    let stream = block.map(u32::to_le_bytes).concat();
    assert_eq!(stream[..16], bytes("c2c64d378cd536374ae204b9ef933fcd"));
}

/// RFC 8439, section 2.5.2 and appendix A.3 from number 7 on: key, message, tag.
pub(super) const TAGS: [(&str, &str, &str); 8] = [
    (
        "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b",
        "43727970746f6772617068696320466f72756d2052657365617263682047726f7570",
        "a8061dc1305136c6c22b8baf0c0127a9",
    ),
    (
        "0200000000000000000000000000000000000000000000000000000000000000",
        "ffffffffffffffffffffffffffffffff",
        "03000000000000000000000000000000",
    ),
    (
        "02000000000000000000000000000000ffffffffffffffffffffffffffffffff",
        "02000000000000000000000000000000",
        "03000000000000000000000000000000",
    ),
    (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "fffffffffffffffffffffffffffffffff0ffffffffffffffffffffffffffffff11000000000000000000000000000000",
        "05000000000000000000000000000000",
    ),
    (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "fffffffffffffffffffffffffffffffffbfefefefefefefefefefefefefefefe01010101010101010101010101010101",
        "00000000000000000000000000000000",
    ),
    (
        "0200000000000000000000000000000000000000000000000000000000000000",
        "fdffffffffffffffffffffffffffffff",
        "faffffffffffffffffffffffffffffff",
    ),
    (
        "0100000000000000040000000000000000000000000000000000000000000000",
        "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000\
         0000000000000000000000000000000001000000000000000000000000000000",
        "14000000000000005500000000000000",
    ),
    (
        "0100000000000000040000000000000000000000000000000000000000000000",
        "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000\
         00000000000000000000000000000000",
        "13000000000000000000000000000000",
    ),
];

#[test]
fn the_model_makes_the_tags_of_the_standard() {
    for (key, message, tag) in TAGS {
        let key = bytes(key).try_into().unwrap();
        assert_eq!(model::poly1305(&key, &bytes(message)).to_vec(), bytes(tag), "{message}");
    }
}

/// The construction of RFC 8439, section 2.8, by the model.
#[test]
fn the_model_and_the_reference_agree() {
    let key: [u8; 32] = std::array::from_fn(|place| 7 * place as u8);
    let words = std::array::from_fn(|word| u32::from_le_bytes(key.as_chunks().0[word]));
    for length in [0, 1, 16, 63, 64, 65, 200] {
        let mut sealed = vec![0; length + TAG_BYTES];
        Cipher::Reference.seal([Job { key: &Key::new(&key), counter: 9, bytes: &mut sealed }]);
        let stream = (1..5).flat_map(|number| model::block(&words, number, [0, 9, 0]));
        let text: Vec<u8> = stream.flat_map(u32::to_le_bytes).take(length).collect();
        let once = model::block(&words, 0, [0, 9, 0]).map(u32::to_le_bytes).concat();
        let tag = model::poly1305(once[..32].try_into().unwrap(), &authenticated(&text));
        assert_eq!(sealed, [text, tag.to_vec()].concat());
    }
}

/// What the tag of a text without associated data is made over.
pub(super) fn authenticated(text: &[u8]) -> Vec<u8> {
    let mut message = text.to_vec();
    message.resize(text.len().next_multiple_of(16), 0);
    message.extend([0; 8]);
    message.extend((text.len() as u64).to_le_bytes());
    message
}
