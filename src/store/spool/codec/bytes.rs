//! Varints (LEB128), zigzag, and a reader that cannot run over the end.

use super::Corrupt;

pub fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v & 0x7F) as u8 | 0x80);
        v >>= 7;
    }
    out.push((v & 0x7F) as u8);
}

/// Small magnitudes of either sign become short varints.
pub fn put_signed(out: &mut Vec<u8>, v: i64) {
    put(out, ((v << 1) ^ (v >> 63)).cast_unsigned());
}

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn byte(&mut self) -> Result<u8, Corrupt> {
        let (first, rest) = self.0.split_first().ok_or(Corrupt("it ends early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn get(&mut self) -> Result<u64, Corrupt> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            let part = u64::from(b & 0x7F);
            if shift == 63 && part > 1 {
                break;
            }
            v |= part << shift;
            if b & 0x80 == 0 {
                return Ok(v);
            }
        }
        Err(Corrupt("a number is too long"))
    }

    pub fn get_signed(&mut self) -> Result<i64, Corrupt> {
        let v = self.get()?;
        Ok((v >> 1).cast_signed() ^ -(v & 1).cast_signed())
    }

    /// A count of things of which each takes at least one byte from here on.
    pub fn count(&mut self) -> Result<usize, Corrupt> {
        let n = self.get()?;
        if n <= self.0.len() as u64 {
            usize::try_from(n).map_err(|_| Corrupt("a count is too large"))
        } else {
            Err(Corrupt("a count is too large"))
        }
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Corrupt> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Corrupt("it ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub fn text(&mut self) -> Result<&'a str, Corrupt> {
        let n = self.count()?;
        std::str::from_utf8(self.take(n)?).map_err(|_| Corrupt("a text is no UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = vec![];
            put(&mut out, v);
            assert_eq!(Bytes(&out).get(), Ok(v));
            put_signed(&mut out, v.cast_signed());
            let mut bytes = Bytes(&out);
            assert_eq!((bytes.get(), bytes.get_signed()), (Ok(v), Ok(v.cast_signed())));
        }
    }

    #[test]
    fn a_number_without_an_end_is_refused() {
        assert!(Bytes(&[0xFF; 20]).get().is_err());
        assert!(Bytes(&[0x80]).get().is_err());
        assert!(Bytes(&[5, 1, 2]).count().is_err());
    }
}
