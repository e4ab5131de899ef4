//! Mails read per second, by form: recognition alone, without the store.
//!
//! `cargo bench --bench report`

use std::hint::black_box;

use carom::report::recognise;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const MAILS: &[(&str, &str)] = &[
    ("dsn", include_str!("../tests/reports/mails/dsn-failed.eml")),
    ("arf", include_str!("../tests/reports/mails/arf-abuse.eml")),
    ("text", include_str!("../tests/reports/mails/exim.eml")),
    ("ordinary", include_str!("../tests/reports/mails/ordinary-quoting.eml")),
];

fn recognition(c: &mut Criterion) {
    let mut group = c.benchmark_group("recognise");
    group.throughput(Throughput::Elements(1));
    for (name, text) in MAILS {
        let mail = text.replace('\n', "\r\n");
        group.bench_function(*name, |b| b.iter(|| recognise(black_box(mail.as_bytes()))));
    }
    // A report that returns the whole mail: what stands behind the header must not cost much.
    let mut large =
        MAILS[0].1.replace("Hello Ann\n", &"Hello Ann, this line is one of many in the mail.\n".repeat(2000));
    large = large.replace('\n', "\r\n");
    group.bench_function("dsn with a 100 kB mail returned", |b| b.iter(|| recognise(black_box(large.as_bytes()))));
    group.finish();
}

criterion_group!(benches, recognition);
criterion_main!(benches);
