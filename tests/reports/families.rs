//! Each family of reports that follow no standard, from examples written for the purpose: `families/*.txt`.
//!
//! An example begins with a line `=== FORMAT KIND RCPT STATUS CODE[, RCPT STATUS CODE ...]`, `-` where nothing is said;
//! what follows is the mail.

use carom::report::{Recognised, legacy_formats, recognise};

const EXAMPLES: &[&str] = &[
    include_str!("families/unix.txt"),
    include_str!("families/servers.txt"),
    include_str!("families/gateways.txt"),
    include_str!("families/devices.txt"),
    include_str!("families/providers.txt"),
    include_str!("families/newer.txt"),
    include_str!("families/unknown.txt"),
    include_str!("families/field.txt"),
];

/// What is expected, and the mail with CRLF line ends.
pub fn examples() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    EXAMPLES.iter().flat_map(|file| file.split("=== ").skip(1)).map(|example| {
        let (expected, mail) = example.split_once('\n').expect("an example has a mail");
        (expected, mail.replace('\n', "\r\n").into_bytes())
    })
}

fn told(r: &Recognised) -> String {
    let dash = |s: String| if s.is_empty() { "-".to_owned() } else { s };
    let results: Vec<String> = r
        .results
        .iter()
        .map(|x| {
            let status = dash(x.status.map(|s| s.to_string()).unwrap_or_default());
            let code = dash(x.reply_code().map(|c| c.to_string()).unwrap_or_default());
            format!("{} {status} {code}", x.rcpt)
        })
        .collect();
    format!("{} {} {}", dash(r.format.to_owned()), r.kind.name(), results.join(", "))
}

#[test]
fn every_example_is_told_as_it_says() {
    let wrong: Vec<String> = examples()
        .map(|(expected, mail)| (expected, told(&recognise(&mail))))
        .filter(|(expected, told)| expected != told)
        .map(|(expected, told)| format!("expected {expected}\n    told {told}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} examples:\n{}", wrong.len(), examples().count(), wrong.join("\n"));
}

#[test]
fn every_family_has_an_example() {
    let without: Vec<&str> =
        legacy_formats().filter(|format| !examples().any(|(e, _)| e.split(' ').next() == Some(format))).collect();
    assert!(without.is_empty(), "families without an example in tests/reports/families: {without:?}");
}

#[test]
fn every_reported_failure_says_why() {
    for (expected, mail) in examples().filter(|(e, _)| e.contains(" bounce ")) {
        let r = recognise(&mail);
        assert!(r.results.iter().any(|x| !x.diag.is_empty()), "{expected}: no diagnostic");
    }
}

#[test]
fn what_a_person_passes_on_is_no_report() {
    for (expected, mail) in examples().filter(|(e, _)| !e.starts_with("sns")) {
        let mail = String::from_utf8(mail).unwrap();
        let (_, body) = mail.split_once("\r\n\r\n").unwrap();
        let forwarded = format!(
            "From: Ann <ann@example.net>\r\nTo: help@example.com\r\nSubject: Fwd: Undeliverable: May\r\n\r\n\
             Hi, what does this mean? I get it for every mail that I send to my sister.\r\n\
             She says that her account works, and others reach her, so it must be here.\r\n\r\n{body}"
        );
        assert_eq!(recognise(forwarded.as_bytes()).kind.name(), "none", "{expected}");
    }
}
