//! Reads a folder of real mails, named by the environment variable `CAROM_REPORT_CORPUS` (`mails/*/*.eml` in it), and
//! writes what was recognised as JSON lines, for a scoring program. Without the variable nothing is measured.

use std::io::Write;
use std::path::Path;

use carom::report::{Summary, recognise};

#[test]
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "reads a folder and writes a file")]
fn every_mail_of_a_corpus_is_read() {
    let Ok(folder) = std::env::var("CAROM_REPORT_CORPUS") else {
        println!("SKIPPED: CAROM_REPORT_CORPUS names no folder of mails");
        return;
    };
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports.jsonl");
    let mut lines = std::io::BufWriter::new(std::fs::File::create(&out).unwrap());
    let mut count = 0;
    for set in std::fs::read_dir(Path::new(&folder).join("mails")).unwrap() {
        for mail in std::fs::read_dir(set.unwrap().path()).unwrap() {
            let path = mail.unwrap().path();
            let summary = Summary::from(&recognise(&std::fs::read(&path).unwrap()));
            let mut json = serde_json::to_value(&summary).unwrap();
            json["file"] = path.display().to_string().into();
            writeln!(lines, "{json}").unwrap();
            count += 1;
        }
    }
    assert!(count > 0, "{folder} has no mails");
    println!("{count} mails written to {}", out.display());
}
