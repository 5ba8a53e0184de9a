//! What a fuzzer drives: the real parsers and the core of a line, with bytes that anybody may have sent.
//!
//! One file per target, each with `run(data)`, which panics where a promise of the code is broken. The targets of cargo-fuzz
//! (`fuzz/fuzz_targets`) and the replay of the corpora (`tests/corpora.rs`) share them.
#![allow(dead_code)] // each target uses its own

pub mod ascii;
pub mod feed;
pub mod line;
pub mod plant;
pub mod rtu;
pub mod tcp;
