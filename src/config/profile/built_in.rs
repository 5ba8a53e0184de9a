//! The profiles that the program brings with it, so that a gateway which has only the binary knows the common devices. They
//! stand in for a directory that is looked in first: a file of the same name in any real one replaces them.

/// Where they are said to be.
pub const DIR: &str = "(built in)";

/// Name and text, in order of name.
pub const ALL: &[(&str, &str)] = &[
    ("carlogavazzi-em24", include_str!("../../../config/profiles/carlogavazzi-em24.toml")),
    ("carlogavazzi-em340", include_str!("../../../config/profiles/carlogavazzi-em340.toml")),
    ("eastron-sdm120", include_str!("../../../config/profiles/eastron-sdm120.toml")),
    ("eastron-sdm630", include_str!("../../../config/profiles/eastron-sdm630.toml")),
    ("growatt-mic-min", include_str!("../../../config/profiles/growatt-mic-min.toml")),
    ("pzem-004t-v3", include_str!("../../../config/profiles/pzem-004t-v3.toml")),
    ("schneider-iem3155", include_str!("../../../config/profiles/schneider-iem3155.toml")),
    ("sma-tripower", include_str!("../../../config/profiles/sma-tripower.toml")),
    ("sunspec", include_str!("../../../config/profiles/sunspec.toml")),
    ("victron-gx", include_str!("../../../config/profiles/victron-gx.toml")),
    ("waveshare-relay-8", include_str!("../../../config/profiles/waveshare-relay-8.toml")),
    ("xy-md02", include_str!("../../../config/profiles/xy-md02.toml")),
];

/// The text of a file that is said to be in [`DIR`].
pub fn text(path: &std::path::Path) -> Option<&'static str> {
    let name = path.strip_prefix(DIR).ok()?.file_stem()?.to_str()?;
    ALL.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_is_built_in() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
        let files = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "toml"));
        let mut shipped: Vec<String> = files.map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        shipped.sort();
        assert_eq!(ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>(), shipped);
    }
}
