//! Numbers that are stored in decimal: BCD and modulo 10000, both ways.

/// Four bits for each digit. `None`: one of them is above 9.
pub fn bcd(raw: u64) -> Option<u64> {
    (0..16).rev().map(|n| raw >> (n * 4) & 0xf).try_fold(0u64, |all, digit| (digit <= 9).then(|| all * 10 + digit))
}

/// The inverse, for numbers of at most 16 digits.
pub fn to_bcd(number: u64) -> u64 {
    (0..16).fold(0, |all, n| all | (number / 10u64.pow(n) % 10) << (n * 4))
}

/// A register for each four digits. `None`: one of them is above 9999.
pub fn m10k(raw: u64) -> Option<u64> {
    (0..4).rev().map(|n| raw >> (n * 16) & 0xffff).try_fold(0u64, |all, four| (four <= 9999).then(|| all * 10_000 + four))
}

/// The inverse, for numbers of at most 16 digits.
pub fn to_m10k(number: u64) -> u64 {
    (0..4).fold(0, |all, n| all | (number / 10_000u64.pow(n) % 10_000) << (n * 16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_above_nine_are_no_number() {
        for (raw, want) in [(0x1234, Some(1234)), (0, Some(0)), (0x9999_9999_9999_9999, Some(9_999_999_999_999_999))] {
            assert_eq!(bcd(raw), want, "{raw:x}");
        }
        for raw in [0xA, 0x123F, 0xFFFF, 0xA000_0000_0000_0000] {
            assert_eq!(bcd(raw), None, "{raw:x}");
        }
        assert_eq!(m10k(0x0001_270F), Some(19_999));
        assert_eq!(m10k(0x2710), None);
        assert_eq!(m10k(0xFFFF_0000), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks(number in 0u64..10_000_000_000_000_000) {
            prop_assert_eq!(bcd(to_bcd(number)), Some(number));
            prop_assert_eq!(m10k(to_m10k(number)), Some(number));
        }
    }
}
