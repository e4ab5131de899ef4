//! Any bytes as a mail: read without a panic, with bounded results, and the same twice.
//!
//! The seeds are made of the tests' examples (`tests/fuzz/seeds.sh`); from the root of the project:
//!
//! ```sh
//! tests/fuzz/seeds.sh && cp Cargo.lock tests/fuzz/
//! RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/fuzz cargo fuzz run --fuzz-dir tests/fuzz -s none report -- -max_total_time=600
//! ```
//!
//! `-s none`: there is no unsafe code here for the address sanitiser to watch.
//! `RUSTC_BOOTSTRAP=1` lets a stable toolchain do; libFuzzer itself is built by a C++ compiler. The first build compiles
//! every dependency anew, with optimization.
#![no_main]

use carom::report::kind::MAX_RESULTS;
use carom::report::{ReportKind, Summary, recognise, recognise_mail};

libfuzzer_sys::fuzz_target!(|mail: &[u8]| {
    let read = recognise(mail);
    assert!(read.results.len() <= MAX_RESULTS);
    assert!(read.kind != ReportKind::None || read.results.is_empty(), "what is no report speaks of nobody");
    assert_eq!(read, recognise(mail), "the same mail says the same");
    let _ = Summary::from(&read);
    let _ = recognise_mail(mail, true);
});
