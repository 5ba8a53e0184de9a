//! gzip for the files of the pages, once at the first request: a third of the bytes on a phone's connection, without a
//! dependency and without packed files in the source. RFC 1951 with the fixed code, RFC 1952 around it. Pure.

/// Matches reach so far back, and are so long at least and at most.
const FAR: usize = 32 * 1024;
const LEAST: usize = 3;
const MOST: usize = 258;
/// Earlier places of the same three bytes that are tried.
const TRIED: usize = 64;

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Bits { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], open: 0, count: 0 };
    // One last block with the fixed code.
    out.put(0b011, 3);
    let mut places: std::collections::BTreeMap<&[u8], Vec<usize>> = std::collections::BTreeMap::new();
    let mut at = 0;
    while at < bytes.len() {
        let (mut length, mut back) = (0, 0);
        if let Some(earlier) = bytes.get(at..at + LEAST).and_then(|three| places.get(three)) {
            for from in earlier.iter().rev().take(TRIED).take_while(|from| at - **from <= FAR) {
                let same = bytes[at..].iter().zip(&bytes[*from..]).take(MOST).take_while(|(a, b)| a == b).count();
                if same > length {
                    (length, back) = (same, at - from);
                }
            }
        }
        if length >= LEAST {
            out.copy(length, back);
        } else {
            length = 1;
            out.symbol(usize::from(bytes[at]));
        }
        for place in at..at + length {
            if let Some(three) = bytes.get(place..place + LEAST) {
                places.entry(three).or_default().push(place);
            }
        }
        at += length;
    }
    out.symbol(256);
    out.put(0, (8 - out.count % 8) % 8);
    out.bytes.extend(crc32(bytes).to_le_bytes());
    // Modulo 2^32, as the format says.
    #[allow(clippy::cast_possible_truncation)]
    out.bytes.extend((bytes.len() as u32).to_le_bytes());
    out.bytes
}

struct Bits {
    bytes: Vec<u8>,
    open: u32,
    count: u32,
}

impl Bits {
    /// The low bits of a number, the lowest first.
    fn put(&mut self, bits: usize, count: u32) {
        #[allow(clippy::cast_possible_truncation)] // 16 at most
        let bits = bits as u32;
        self.open |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.open.to_le_bytes()[0]);
            self.open >>= 8;
            self.count -= 8;
        }
    }

    /// A code, the highest bit first.
    fn code(&mut self, code: usize, count: u32) {
        (0..count).rev().for_each(|bit| self.put(code >> bit & 1, 1));
    }

    /// A literal, the end, or a length.
    fn symbol(&mut self, symbol: usize) {
        match symbol {
            0..144 => self.code(0x30 + symbol, 8),
            144..256 => self.code(0x190 + symbol - 144, 9),
            256..280 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    fn copy(&mut self, length: usize, back: usize) {
        if length == MOST {
            self.symbol(285);
        } else {
            let (code, extra, bits) = step(length - LEAST, 4);
            self.symbol(257 + code);
            self.put(extra, bits);
        }
        let (code, extra, bits) = step(back - 1, 2);
        self.code(code, 5);
        self.put(extra, bits);
    }
}

/// The code of a number, and what is put after it: `steps` codes for each doubling, after twice as many with nothing.
fn step(n: usize, steps: usize) -> (usize, usize, u32) {
    if n < 2 * steps {
        return (n, 0, 0);
    }
    let bits = (n / steps).ilog2();
    (steps * bits as usize + (n >> bits), n & ((1 << bits) - 1), bits)
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    /// By Debian's gzip, which is always there.
    #[track_caller]
    fn check(bytes: &[u8]) -> usize {
        let packed = gzip(bytes);
        let mut gunzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip is there");
        let (mut stdin, given) = (gunzip.stdin.take().unwrap(), packed.clone());
        let writing = std::thread::spawn(move || stdin.write_all(&given));
        let got = gunzip.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        assert!(got.status.success() && got.stdout == bytes, "{} bytes come back as {}", bytes.len(), got.stdout.len());
        packed.len()
    }

    #[test]
    fn another_gzip_gives_the_same_back() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        check(b"");
        check(b"a");
        check(&[b'a'; 1000]);
        // All bytes, all lengths of matches, all distances up to the farthest.
        check(&(0..=255).collect::<Vec<u8>>());
        let mut x = 1u32;
        let mut noise = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x.to_be_bytes()[0]
        };
        let mut all: Vec<u8> = (0..40_000).map(|_| noise()).collect();
        for length in 3..400 {
            let from = all.len() - (length * 97) % 33_000 - length;
            all.extend_from_within(from..from + length);
            all.push(noise());
        }
        check(&all);
    }

    #[test]
    fn a_text_becomes_much_smaller() {
        let text = include_bytes!("../web/style.css");
        let packed = check(text);
        assert!(packed * 5 < text.len() * 2, "{packed} of {}", text.len());
    }
}
