//! Comparing a secret with what a peer presented.

/// Compares in a time that depends on the length of what was presented only.
pub fn same(secret: &[u8], presented: &[u8]) -> bool {
    let mut differs = u8::from(secret.len() != presented.len());
    for (n, byte) in presented.iter().enumerate() {
        differs |= std::hint::black_box(secret.get(n).copied().unwrap_or(!byte) ^ byte);
    }
    std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_is_the_same() {
        assert!(same(b"secret", b"secret") && same(b"", b""));
        for other in ["Secret", "", "secret2", "secre"] {
            assert!(!same(b"secret", other.as_bytes()), "{other}");
        }
    }
}
