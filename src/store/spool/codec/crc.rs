//! CRC-32 (IEEE 802.3), eight bytes at a time.

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut t = [[0u32; 256]; 8];
    let mut n = 0;
    while n < 256 {
        #[allow(clippy::cast_possible_truncation)] // below 256
        let mut c = n as u32;
        let mut k = 0;
        while k < 8 {
            c = if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 };
            k += 1;
        }
        t[0][n] = c;
        n += 1;
    }
    let mut s = 1;
    while s < 8 {
        let mut n = 0;
        while n < 256 {
            t[s][n] = t[0][(t[s - 1][n] & 0xFF) as usize] ^ (t[s - 1][n] >> 8);
            n += 1;
        }
        s += 1;
    }
    t
}

pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    let mut chunks = bytes.chunks_exact(8);
    for c in &mut chunks {
        let low = crc ^ u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
        let l = low.to_le_bytes();
        crc = TABLES[7][l[0] as usize]
            ^ TABLES[6][l[1] as usize]
            ^ TABLES[5][l[2] as usize]
            ^ TABLES[4][l[3] as usize]
            ^ TABLES[3][c[4] as usize]
            ^ TABLES[2][c[5] as usize]
            ^ TABLES[1][c[6] as usize]
            ^ TABLES[0][c[7] as usize];
    }
    for b in chunks.remainder() {
        crc = TABLES[0][((crc ^ u32::from(*b)) & 0xFF) as usize] ^ (crc >> 8);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn known_checksums() {
        for (text, want) in [("", 0), ("123456789", 0xCBF4_3926), ("The quick brown fox jumps over the lazy dog", 0x414F_A339)] {
            assert_eq!(crc32(text.as_bytes()), want, "{text}");
        }
    }
}
