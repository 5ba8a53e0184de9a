//! The door: every route, without and with the wrong token; problems as documents.

use super::{access::Need, problem::Problem, routes::routes};

#[test]
fn each_kind_of_problem_is_documented() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md")).unwrap();
    for kind in Problem::KINDS {
        assert!(document.contains(&format!("`{kind}`")), "docs/protocol.md does not say what {kind} is");
    }
}

#[test]
fn each_address_is_documented_with_its_method_and_only_devices_write_for_devices() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md")).unwrap();
    for route in routes() {
        assert!(document.contains(&format!("`{} {}`", route.method, route.path)), "{} {}", route.method, route.path);
        let of_device = route.path.contains("/devices/{id}/") && route.method == "POST";
        assert_eq!(route.need == Need::Device, of_device, "{}", route.path);
    }
}
