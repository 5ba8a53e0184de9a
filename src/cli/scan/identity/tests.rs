use super::*;
use crate::config::{Secrets, Surroundings};
use std::path::Path;

fn shipped() -> Vec<Profile> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
    let around = Surroundings { env: Box::new(|_| None), machine_id: None, profile_dirs: vec![dir], secrets: Secrets::Unread };
    crate::config::profile::profiles(Path::new("nowhere/fieldgate.toml"), &around).profiles
}

fn single(value: f32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// Asks everything of a device that has these registers as bytes, by function and address.
#[track_caller]
fn identify(profiles: &[Profile], words: &dyn Fn(u8, u16) -> Option<[u8; 2]>, id: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Identity {
    let mut identify = Identify::new(profiles, &[40000, 50000, 0]);
    while let Some(pdu) = identify.next() {
        assert!(is_read(&pdu), "{pdu:02x?}");
        let outcome = match pdu[..] {
            [function @ 1..=4, a, b, c, d] => {
                let (start, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                let data: Option<Vec<[u8; 2]>> = (start..start.saturating_add(count)).map(|n| words(function, n)).collect();
                data.map_or(SiteOutcome::Exception(2), |data| {
                    let data = data.concat();
                    SiteOutcome::Answer([&[function, u8::try_from(data.len()).unwrap()], &data[..]].concat())
                })
            }
            _ => id(&pdu).map_or(SiteOutcome::Exception(1), SiteOutcome::Answer),
        };
        identify.heard(&outcome);
    }
    identify.verdict(Some(2))
}

#[test]
fn a_device_that_says_who_it_is_is_believed() {
    let id = |pdu: &[u8]| (pdu == [43, 14, 1, 0]).then(|| [&[43, 14, 1, 1, 0, 0, 3][..], b"\x00\x04Acme\x01\x02M1\x02\x031.2"].concat());
    let got = identify(&[], &|_, _| None, &id);
    assert_eq!((got.title.as_str(), got.sure), ("Acme M1 1.2", "medium"));
    let server = |pdu: &[u8]| (pdu == [17]).then(|| [&[17, 11, 0x22, 0xff][..], b"XYZ-100\x00\x01"].concat());
    assert_eq!(identify(&[], &|_, _| None, &server).said.as_deref(), Some("XYZ-100"));
}

#[test]
fn sunspec_is_found_at_another_base_and_named_by_its_common_model() {
    let mut text = b"SunS\x00\x01\x00\x41".to_vec();
    text.extend(b"Fronius".iter().chain(&[0; 25]));
    text.extend(b"Primo 3.0".iter().chain(&[0; 23]));
    let words = |_, n: u16| n.checked_sub(50000).and_then(|n| text.get(usize::from(n) * 2..)?.first_chunk::<2>().copied());
    let got = identify(&[], &words, &|_| None);
    assert_eq!(got.title, "Fronius Primo 3.0 (SunSpec)");
}

#[test]
fn nothing_known_says_what_is_known() {
    assert_eq!(identify(&[], &|_, _| None, &|_| None).title, "unknown, refuses holding:0 (2)");
}

#[test]
fn a_meter_is_recognised_by_the_probes_of_its_profile() {
    let meter = |function, n: u16| {
        let value = match n & !1 {
            0 => 230.1,
            70 => 50.01,
            _ => 0.0,
        };
        let half = usize::from(n & 1) * 2;
        (function == 4 && n < 380).then(|| single(value)[half..half + 2].try_into().unwrap())
    };
    let profiles = shipped();
    let has_probes = profiles.iter().any(|p| p.id == "eastron-sdm120" && !p.probes.is_empty());
    let got = identify(&profiles, &meter, &|_| None);
    if has_probes {
        assert_eq!(got.profile.as_deref(), Some("eastron-sdm120"), "{got:?}");
        assert_eq!(got.evidence.as_deref(), Some("voltage 230.1 V"));
        assert_eq!(got.sure, "high");
    }
}

#[test]
fn broken_texts_of_a_device_are_no_panic() {
    for pdu in [&[43u8, 14][..], &[43, 14, 1, 1, 0, 0, 9, 0, 200, 1], &[17], &[17, 200, 1], &[]] {
        let _ = (objects(pdu), server_id(pdu), common(pdu));
    }
}
