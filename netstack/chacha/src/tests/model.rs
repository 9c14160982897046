//! The parts of RFC 8439 in the plainest way, byte by byte: what the registers' arithmetic is checked against where
//! ring does not show its own.

/// One block of ChaCha20 as words (RFC 8439, section 2.3).
pub(super) fn block(key: &[u32; 8], counter: u32, nonce: [u32; 3]) -> [u32; 16] {
    let mut start = [0; 16];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    start[4..12].copy_from_slice(key);
    start[12] = counter;
    start[13..].copy_from_slice(&nonce);
    let mut words = start;
    for _ in 0..10 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter(&mut words, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter(&mut words, a, b, c, d);
        }
    }
    std::array::from_fn(|word| words[word].wrapping_add(start[word]))
}

fn quarter(words: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (a, b, d, turn) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        words[a] = words[a].wrapping_add(words[b]);
        words[d] = (words[d] ^ words[a]).rotate_left(turn);
    }
}

/// Poly1305 of a message (RFC 8439, section 2.5). A number is seventeen bytes.
pub(super) fn poly1305(key: &[u8; 32], message: &[u8]) -> [u8; 16] {
    let mut r: Vec<u64> = key[..16].iter().map(|byte| u64::from(*byte)).collect();
    for place in [3, 7, 11, 15] {
        r[place] &= 15;
    }
    for place in [4, 8, 12] {
        r[place] &= 252;
    }
    r.push(0);
    let mut sum = [0; 17];
    for chunk in message.chunks(16) {
        for (sum, byte) in sum.iter_mut().zip(chunk) {
            *sum += u64::from(*byte);
        }
        sum[chunk.len()] += 1;
        // What is 2^136 or more counts 5 * 2^6 times at the bottom.
        sum = std::array::from_fn(|i| {
            let straight: u64 = (0..=i).map(|j| sum[j] * r[i - j]).sum();
            let wrapped: u64 = (i + 1..17).map(|j| 320 * sum[j] * r[i + 17 - j]).sum();
            straight + wrapped
        });
        squeeze(&mut sum);
        squeeze(&mut sum);
    }
    let mut more = sum;
    more[0] += 5;
    carry(&mut more);
    let least = if more[16] >= 4 { more } else { sum };
    let mut tag: [u64; 17] = least;
    for (sum, byte) in tag.iter_mut().zip(&key[16..]) {
        *sum += u64::from(*byte);
    }
    carry(&mut tag);
    std::array::from_fn(|place| tag[place] as u8)
}

fn carry(number: &mut [u64; 17]) {
    for place in 0..16 {
        number[place + 1] += number[place] >> 8;
        number[place] &= 255;
    }
}

/// Brings a number below 2^130 and a little more: what is above counts five times at the bottom.
fn squeeze(number: &mut [u64; 17]) {
    carry(number);
    let above = number[16] >> 2;
    number[16] &= 3;
    number[0] += 5 * above;
    carry(number);
}
