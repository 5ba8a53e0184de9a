use super::*;
use proptest::prelude::*;

#[track_caller]
fn check_half(half: u16, want: f64) {
    assert_eq!(from_half(half), want, "{half:04x}");
    assert_eq!(to_half(want), half, "{want}");
}

#[test]
fn halves_are_ieee_754() {
    check_half(0x0000, 0.0);
    check_half(0x0001, 5.960_464_477_539_063e-8);
    check_half(0x03ff, 6.097_555_160_522_461e-5);
    check_half(0x0400, 6.103_515_625e-5);
    check_half(0x3555, 0.333_251_953_125);
    check_half(0x3c00, 1.0);
    check_half(0x3c01, 1.000_976_562_5);
    check_half(0xc000, -2.0);
    check_half(0x7bff, 65504.0);
    check_half(0x7c00, f64::INFINITY);
    check_half(0xfc00, f64::NEG_INFINITY);
    assert!(from_half(0x7e00).is_nan() && from_half(to_half(f64::NAN)).is_nan());
}

#[test]
fn halves_round_to_nearest_ties_to_even() {
    assert_eq!(to_half(1.0 + 1.0 / 2048.0), 0x3c00);
    assert_eq!(to_half(1.0 + 3.0 / 2048.0), 0x3c02);
    assert_eq!(to_half(2047.9), 0x6800);
    assert_eq!(to_half(65519.9), 0x7bff);
    assert_eq!(to_half(65520.0), 0x7c00);
    assert_eq!(to_half(1e300), 0x7c00);
    assert_eq!(to_half(2f64.powi(-25)), 0);
    assert_eq!(to_half(-1e-300), 0x8000);
}

#[test]
fn every_half_comes_back() {
    for half in (0..=u16::MAX).filter(|half| !from_half(*half).is_nan()) {
        assert_eq!(to_half(from_half(half)), half, "{half:04x}");
    }
}

#[track_caller]
fn check_widened(single: f32, want: &str) {
    assert_eq!(widen(single).to_string(), want);
}

#[test]
fn singles_are_widened_to_the_number_a_person_would_write() {
    check_widened(237.4, "237.4");
    check_widened(-0.1, "-0.1");
    check_widened(49.98, "49.98");
    check_widened(0.001_234_5, "0.0012345");
    check_widened(123_456.79, "123456.79");
    check_widened(16_777_216.0, "16777216");
    check_widened(0.0, "0");
    check_widened(f32::INFINITY, "inf");
    check_widened(9_999_999.0, "9999999");
    check_widened(1e-5, "0.00001");
    check_widened(0.3 + 0.6, "0.90000004");
}

#[test]
fn only_powers_of_ten_divide() {
    assert_eq!(divisor(0.1), Some(10.0));
    assert_eq!(divisor(-0.001), Some(-1000.0));
    assert_eq!(divisor(1e-12), Some(1e12));
    for scale in [1.0, 10.0, 0.5, 0.2, 0.0, 0.100_000_000_000_000_02, 1e-13, f64::NAN] {
        assert_eq!(divisor(scale), None, "{scale}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    #[allow(clippy::cast_possible_truncation)]
    fn widening_loses_nothing(bits: u32) {
        let single = f32::from_bits(bits);
        let wide = widen(single);
        prop_assert!((wide.is_nan() && single.is_nan()) || (wide as f32).to_bits() == bits, "{single} became {wide}");
    }

    #[test]
    #[allow(clippy::cast_possible_truncation)]
    fn widening_is_short_where_people_look(single in 1e-5f32..1e7) {
        let wide = widen(single);
        prop_assert_eq!(wide as f32, single);
        prop_assert_eq!(wide.to_string(), single.to_string());
    }

    #[test]
    fn measured_decimals_survive(n in -9_999_999i32..9_999_999, decimals in 0i32..4) {
        let text = format!("{}", f64::from(n) / 10f64.powi(decimals));
        let single: f32 = text.parse().unwrap();
        prop_assert_eq!(widen(single), text.parse::<f64>().unwrap());
    }
}
