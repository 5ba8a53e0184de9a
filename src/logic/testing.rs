//! For tests: how the models of this room are asked. So many random histories each, and a line that says how many it were.

use proptest::{
    prelude::*,
    test_runner::{TestCaseResult, TestRunner},
};
use std::cell::Cell;

/// In a usual run. `PROPTEST_CASES` says another number; `tests/run --long models` says 10,000.
const CASES: u32 = 1_000;

/// `file`: beside which a history that failed is kept, to be tried first from then on.
pub fn models<S: Strategy>(file: &'static str, name: &str, of: S, follows: impl Fn(S::Value) -> TestCaseResult) {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let usual = ProptestConfig::default();
    let cases = if asked { usual.cases } else { CASES };
    let carried_out = Cell::new(0u32);
    let mut runner = TestRunner::new(ProptestConfig { cases, source_file: Some(file), ..usual });
    let result = runner.run(&of, |case| {
        carried_out.set(carried_out.get() + 1);
        follows(case)
    });
    if let Err(error) = result {
        panic!("{name}: {error}\n{runner}");
    }
    println!("{name}: {} cases", carried_out.get());
}
