//! The name on the chip, which tells installers which adapter is meant.

use super::Usb;

/// Vendor, product, chip.
const CHIPS: &[(&str, &str, &str)] = &[
    ("0403", "6001", "FT232R"),
    ("0403", "6010", "FT2232H"),
    ("0403", "6011", "FT4232H"),
    ("0403", "6014", "FT232H"),
    ("0403", "6015", "FT231X"),
    ("1a86", "7523", "CH340"),
    ("1a86", "7522", "CH340K"),
    ("1a86", "5523", "CH341"),
    ("1a86", "55d3", "CH343"),
    ("1a86", "55d4", "CH9102"),
    ("1a86", "55d5", "CH344"),
    ("10c4", "ea60", "CP2102"),
    ("10c4", "ea70", "CP2105"),
    ("10c4", "ea71", "CP2108"),
    ("067b", "2303", "PL2303"),
    ("067b", "23a3", "PL2303GC"),
    ("067b", "23c3", "PL2303GT"),
    ("04e2", "1410", "XR21V1410"),
    ("04e2", "1411", "XR21B1411"),
    ("110a", "1150", "MOXA UPort"),
    ("0483", "5740", "STM32 ACM"),
];

pub fn name(usb: Option<&Usb>, driver: &str, port: &str) -> String {
    match usb {
        Some(usb) => adapter(usb, driver),
        None => built_in(driver, port).to_owned(),
    }
}

fn adapter(usb: &Usb, driver: &str) -> String {
    let is_this = |(vendor, product, _): &&(&str, &str, &str)| *vendor == usb.vendor && *product == usb.product;
    if let Some((.., chip)) = CHIPS.iter().find(is_this) {
        return (*chip).to_owned();
    }
    match driver {
        "ftdi_sio" => "FTDI".into(),
        "ch341" | "ch341-uart" => "CH34x".into(),
        "cp210x" => "CP210x".into(),
        "pl2303" => "PL2303".into(),
        "cdc_acm" => "ACM".into(),
        _ => format!("{}:{}", usb.vendor, usb.product),
    }
}

fn built_in<'a>(driver: &'a str, port: &str) -> &'a str {
    match driver {
        "uart-pl011" | "pl011" => "PL011",
        "bcm2835-aux-uart" => "mini UART",
        _ if port.starts_with("ttyAMA") => "PL011",
        _ if port.starts_with("ttyS") => "16550",
        "" => "UART",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_are_named_as_installers_know_them() {
        check(Some(("0403", "6001")), "ftdi_sio", "ttyUSB0", "FT232R");
        check(Some(("0403", "9999")), "ftdi_sio", "ttyUSB0", "FTDI");
        check(Some(("10c4", "ea60")), "cp210x", "ttyUSB0", "CP2102");
        check(Some(("067b", "2303")), "pl2303", "ttyUSB0", "PL2303");
        check(Some(("2341", "0043")), "cdc_acm", "ttyACM0", "ACM");
        check(Some(("dead", "beef")), "mystery", "ttyUSB0", "dead:beef");
        check(None, "uart-pl011", "ttyAMA0", "PL011");
        check(None, "port", "ttyAMA1", "PL011");
        check(None, "port", "ttyS0", "16550");
        check(None, "serial8250", "ttyS0", "16550");
        check(None, "bcm2835-aux-uart", "ttyS0", "mini UART");
        check(None, "imx-uart", "ttymxc2", "imx-uart");
    }

    #[track_caller]
    fn check(usb: Option<(&str, &str)>, driver: &str, port: &str, want: &str) {
        let usb = usb.map(|(v, p)| Usb { vendor: v.into(), product: p.into(), serial: None, says: String::new() });
        assert_eq!(name(usb.as_ref(), driver, port), want);
    }
}
