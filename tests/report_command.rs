//! `carom report` as a postmaster has it: folders, Maildirs and mailboxes of mails, tried with patterns of his own, without
//! a server.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs the program")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const DSN: &str = "From: MAILER-DAEMON@mx.example.net\nTo: b@bounces.example.com\nSubject: Undelivered\n\
    Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: text/plain\n\nno\n\
    --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n\
    Final-Recipient: rfc822; ann@example.net\nAction: failed\nStatus: 5.1.1\n\
    Diagnostic-Code: smtp; 550 5.1.1 no such user\n\n--b\nContent-Type: text/rfc822-headers\n\n\
    Message-ID: <1@example.com>\nSubject: ORIGINAL\n\n--b--\n";
const FORM: &str = "From: gateway@acme.example\nSubject: Notice 17\n\n\
    Mail to dee@example.org could not be handed over.\nCause: 550 5.1.1 kein solcher Nutzer\n";

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn mails(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// `carom report` in a folder; killed when it takes more than half a minute.
fn report(dir: &Path, args: &[&str], input: &[u8]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
    command.arg("report").args(args).current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    let end = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            panic!("carom report {args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let out = child.wait_with_output().unwrap();
    Said {
        code: out.status.code().unwrap_or(-1),
        out: String::from_utf8(out.stdout).unwrap(),
        err: String::from_utf8(out.stderr).unwrap(),
    }
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

fn gzipped(content: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(content).unwrap();
    gz.finish().unwrap()
}

#[test]
fn a_folder_is_read_to_its_end_whatever_it_holds_besides_mails() {
    let dir = folder(&[("d/1.eml", DSN.as_bytes()), ("d/e/2.eml", DSN.as_bytes()), ("d/.git/x", b"x"), ("d/.x", b"x")]);
    let d = dir.path().join("d");
    assert!(Command::new("mkfifo").arg(d.join("fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(d.join("socket")).unwrap();
    for (link, to) in [("loop", "."), ("again", "e"), ("mail", "1.eml"), ("nowhere", "gone")] {
        std::os::unix::fs::symlink(to, d.join(link)).unwrap();
    }
    let said = report(dir.path(), &["d"], b"");
    assert_eq!(said.out.matches(": bounce (dsn)").count(), 3, "{}", said.out);
    assert!(said.out.ends_with("3 mails: 3 bounce, 0 status, 0 feedback, 0 auto-reply, 0 none\n"), "{}", said.out);
    for words in [
        "carom: d/fifo: left out, it is no regular file\n",
        "carom: d/socket: left out, it is no regular file\n",
        "carom: d/loop: left out, it is a link to a folder\n",
        "carom: d/again: left out, it is a link to a folder\n",
        "; the other mails are read all the same\n",
    ] {
        assert!(said.err.contains(words), "{words}{}", said.err);
    }
    // The link that leads nowhere is the one that could not be read.
    assert_eq!((said.code, said.err.contains("d/nowhere: No such file")), (2, true), "{}", said.err);
}

#[test]
fn folders_in_each_other_are_read_to_a_depth() {
    let dir = tempfile::tempdir().unwrap();
    let deep: PathBuf = std::iter::repeat_n("d", 60).collect();
    std::fs::create_dir_all(dir.path().join(&deep)).unwrap();
    std::fs::write(dir.path().join("d/1.eml"), DSN).unwrap();
    let said = report(dir.path(), &["d"], b"");
    assert_eq!((said.code, said.out.matches(": bounce (dsn)").count()), (2, 1), "{}", said.err);
    assert!(said.err.contains("more than 32 folders in each other"), "{}", said.err);
}

#[test]
fn of_a_maildir_only_its_mails_are_read_and_what_is_packed_is_unpacked() {
    let packed = gzipped(DSN.as_bytes());
    let zst = zstd::encode_all(DSN.as_bytes(), 1).unwrap();
    let dir = folder(&[
        ("m/cur/1.M1P1.mx:2,S", DSN.as_bytes()),
        ("m/new/2.M1P1.mx", DSN.as_bytes()),
        ("m/new/.nfs1", b"x"),
        ("m/tmp/3.M1P1.mx", DSN.as_bytes()),
        ("m/dovecot.index.log", b"\0\0"),
        ("m/maildirfolder", b""),
        ("m/.Old/cur/4.M1P1.mx:2,", DSN.as_bytes()),
        ("m/.Old/new/5.M1P1.mx", DSN.as_bytes()),
        ("p/1.eml.gz", &packed),
        ("p/2.eml.zst", &zst),
    ]);
    let said = report(dir.path(), &["--json", "m"], b"");
    let files: Vec<String> = said.mails().iter().map(|m| m["file"].as_str().unwrap_or("").to_owned()).collect();
    let expected = ["m/.Old/cur/4.M1P1.mx:2,", "m/.Old/new/5.M1P1.mx", "m/cur/1.M1P1.mx:2,S", "m/new/2.M1P1.mx"];
    assert_eq!((said.code, files), (0, expected.map(str::to_owned).to_vec()));
    // What could not be read to its end says so.
    std::fs::write(dir.path().join("p/3.eml.gz"), &packed[..40]).unwrap();
    let said = report(dir.path(), &["p"], b"");
    assert_eq!((said.code, said.out.matches(": bounce (dsn)").count()), (2, 2), "{}{}", said.out, said.err);
    assert!(said.err.contains("p/3.eml.gz: "), "{}", said.err);
    assert_eq!(report(dir.path(), &["-"], &packed).out.lines().next(), Some("-: bounce (dsn)"));
}

#[test]
fn the_mails_of_a_mailbox_are_told_apart_and_found_again() {
    let from = "From MAILER-DAEMON Sat Nov 21 10:11:12 2026\n";
    let form = format!("{FORM}\nFrom the start:\n\nthe user was not there\n");
    let mailbox = format!("{from}{DSN}\n{from}{form}\n");
    let dir = folder(&[("m.mbox", mailbox.as_bytes())]);
    let said = report(dir.path(), &["--json", "m.mbox"], b"");
    let mails = said.mails();
    assert_eq!(mails.len(), 2, "a paragraph is no mail: {}", said.out);
    for (n, (mail, content)) in mails.iter().zip([DSN, &form]).enumerate() {
        assert_eq!((&mail["file"], &mail["number"]), (&Value::from("m.mbox"), &Value::from(n + 1)));
        let offset = mail["offset"].as_u64().unwrap() as usize;
        assert!(mailbox[offset..].starts_with(content), "{offset}");
    }
    let text = report(dir.path(), &["m.mbox"], b"").out;
    let offset = from.len() + DSN.len() + 1 + from.len();
    assert!(text.contains(&format!("m.mbox, mail 2 at byte {offset}: none\n")), "{text}");
}

#[test]
fn what_a_mail_hides_in_its_encodings_reaches_neither_terminal_nor_json() {
    let hidden = "=?utf-8?q?=1B[31mred=0D=0Aline=E2=80=AEback=C2=9B2J?=";
    let mail = DSN.replace("ORIGINAL", hidden).replace("no such user", "gone\u{202e}\u{1b}[2J");
    let dir = folder(&[("esc.eml", mail.as_bytes())]);
    for args in [&["esc.eml"][..], &["--json", "esc.eml"]] {
        let said = report(dir.path(), args, b"");
        assert!(said.out.contains("[31mred"), "{}", said.out);
        let unfit = said.out.chars().filter(|c| *c != '\n').find(|c| {
            c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
        });
        assert_eq!((unfit, said.out.contains("\\u00")), (None, false), "{:?}", said.out);
    }
}

#[test]
fn a_pattern_is_tried_without_a_server() {
    let good = "# Acme\nMail to (?<r>\\S+) could not be[^\\n]*\\nCause: (?<diag>.+)\n";
    let complaint = "(?s)Mail to (?<rcpt>\\S+) .*from (?<reportedDomainFrom>\\S+)";
    let config = "host-name mta.example.com\nspool s\nlog-file /l\nsmtp-listener 127.0.0.1:25\n\
        <bounce-processor>\n<address-list>\ndomain bounces.example.com\n</address-list>\n<email-patterns>\n\
        body-pattern-file acme.pattern\n</email-patterns>\n</bounce-processor>\n\
        <bounce-category-patterns>\n/kein solcher Nutzer/ acme-gone\n</bounce-category-patterns>\n";
    let complaint_mail = FORM.replace("Cause: ", "from acme.example ");
    let dir = folder(&[
        ("form.eml", FORM.as_bytes()),
        ("complaint.eml", complaint_mail.as_bytes()),
        ("acme.pattern", good.as_bytes()),
        ("complaint.pattern", complaint.as_bytes()),
        ("broken.pattern", b"# x\nto (?<r>[\n"),
        ("odd.pattern", b"to (?<recipient>\\S+)\n"),
        ("carom.conf", config.as_bytes()),
        ("broken.conf", config.replace("acme.pattern", "broken.pattern").as_bytes()),
    ]);
    let run = |args: &[&str]| report(dir.path(), args, b"");
    assert_eq!(run(&["form.eml"]).out, "form.eml: none\n");

    let said = run(&["--body-pattern", "acme.pattern", "form.eml"]);
    let expected = "form.eml: bounce (acme.pattern)\n    dee@example.org  failed  5.1.1  bad-mailbox  \
        smtp;550 5.1.1 kein solcher Nutzer\n    groups: r=\"dee@example.org\" diag=\"550 5.1.1 kein solcher Nutzer\"\n";
    assert_eq!((said.code, said.out.as_str()), (0, expected), "{}", said.err);

    let said = run(&["--json", "--config", "carom.conf", "--root", ".", "form.eml"]);
    let mail = &said.mails()[0];
    assert_eq!((&mail["kind"], &mail["format"]), (&"bounce".into(), &"acme.pattern".into()), "{}", said.err);
    assert_eq!(
        (&mail["results"][0]["rcpt"], &mail["results"][0]["category"]),
        (&"dee@example.org".into(), &"acme-gone".into())
    );
    assert_eq!(mail["groups"]["r"], "dee@example.org");

    let said = run(&["--json", "--body-pattern", "complaint.pattern", "complaint.eml"]);
    assert_eq!(&said.mails()[0]["kind"], "feedback", "{}", said.out);

    let said = run(&["--body-pattern", "broken.pattern", "form.eml"]);
    assert!(said.code == 2 && said.err.contains("broken.pattern: line 2: "), "{}", said.err);
    let said = run(&["--body-pattern", "odd.pattern", "form.eml"]);
    assert!(said.err.contains("the group recipient fills no field") && said.code == 0, "{}", said.err);
    let said = run(&["--config", "broken.conf", "--root", ".", "form.eml"]);
    assert!(said.code == 2 && said.err.contains("broken.pattern:2:") && said.out.is_empty(), "{}", said.err);
}

#[test]
fn the_example_loads_without_a_finding_and_reads_what_its_patterns_describe() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let loaded = carom::node::load(&examples.join("reports.conf"), Some(&examples));
    assert!(loaded.diagnostics.is_empty(), "{}", carom::config::render(&loaded.diagnostics));
    let config = loaded.config.unwrap();
    let (bounce, feedback) = (config.bounce_processor.unwrap(), config.feedback_loop_processor.unwrap());
    let takes = |p: &carom::config::Processor, address: &str| {
        p.takes(&carom::event::Address::parse(address).unwrap(), carom::config::Entries::WithDomain)
    };
    for address in [
        "b+token@bounce.example.com",
        "returns@example.com",
        "old-bounce-17@example.com",
        "any@bounces.old.example.com",
        "mailer-daemon@example.com",
    ] {
        assert!(takes(&bounce, address), "{address}");
    }
    assert!(!takes(&bounce, "ann@example.com") && takes(&feedback, "fbl@example.com"));

    // The mails are those that the remarks of the pattern files show.
    let shown = |pattern: &str| {
        let text = std::fs::read_to_string(examples.join("reports").join(pattern)).unwrap();
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#     ")).collect();
        format!("From: gw@acme.example\nSubject: Notice\n\nHello,\n\n{}\n", lines.join("\n"))
    };
    let dir = folder(&[
        ("bounce.eml", shown("acme.pattern").as_bytes()),
        ("complaint.eml", shown("complaints.pattern").as_bytes()),
    ]);
    let (conf, root) = (examples.join("reports.conf"), examples.to_str().unwrap());
    let args = ["--json", "--config", conf.to_str().unwrap(), "--root", root, "bounce.eml", "complaint.eml"];
    let said = report(dir.path(), &args, b"");
    let mails = said.mails();
    let (bounce, complaint) = (&mails[0], &mails[1]);
    assert_eq!((&bounce["kind"], &bounce["format"]), (&"bounce".into(), &"acme.pattern".into()), "{}", said.err);
    let result = &bounce["results"][0];
    for (field, value) in [
        ("rcpt", "ann@box.example.net"),
        ("orcpt", "rfc822;ann@example.net"),
        ("action", "failed"),
        ("status", "5.1.1"),
        ("diag", "smtp;550 5.1.1 no such user"),
        ("remoteMta", "mx.example.net"),
        ("category", "bad-mailbox"),
    ] {
        assert_eq!(result[field], value, "{field}");
    }
    assert_eq!(
        (&bounce["groups"]["or"], &bounce["groups"]["repMta"]),
        (&"news@example.com".into(), &"gw.acme.example".into())
    );
    assert_eq!(
        (&complaint["kind"], &complaint["results"][0]["rcpt"]),
        (&"feedback".into(), &"ann@provider.example".into())
    );
    for (group, value) in [
        ("reportedDomainFrom", "provider.example"),
        ("reportedDomainTo", "example.com"),
        ("dlvSourceIp", "192.0.2.20"),
        ("orig", "news@example.com"),
    ] {
        assert_eq!(complaint["groups"][group], value, "{group}");
    }
}

#[test]
fn the_readme_names_every_directive_and_group_of_the_processors() {
    use carom::config::body_pattern::{BOUNCE_GROUPS, FEEDBACK_GROUPS};
    use carom::config::directives::{Scope, all};
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let section = readme.split("\n## ").find(|s| s.starts_with("Bounces and complaints by mail\n")).unwrap();
    let example = std::fs::read_to_string(root.join("examples/reports.conf")).unwrap();
    let scopes = [Scope::Processor, Scope::AddressList, Scope::EmailPatterns, Scope::Token];
    for row in all().into_iter().filter(|row| scopes.contains(&row.scope) && !row.doc.starts_with("Deprecated")) {
        assert!(section.contains(row.name), "README: {}", row.name);
        assert!(example.contains(row.name), "examples/reports.conf: {}", row.name);
    }
    for group in BOUNCE_GROUPS.iter().chain(FEEDBACK_GROUPS) {
        assert!(section.contains(&format!("`{group}`")), "README: {group}");
    }
    for key in ["file", "number", "offset", "kind", "format", "groups", "results", "original", "hard", "category"] {
        assert!(section.contains(&format!("`{key}`")), "README: {key}");
    }
}

#[test]
fn nothing_that_is_named_passes_in_silence() {
    let dir = folder(&[("empty.eml", b""), ("line.eml", b"\n"), ("good.eml", DSN.as_bytes())]);
    let run = |args: &[&str]| report(dir.path(), args, b"");
    assert_eq!(run(&["empty.eml"]).out, "empty.eml: none (empty)\n");
    assert_eq!(run(&["-"]).out, "-: none (empty)\n");
    let said = run(&["--json", "empty.eml", "line.eml"]);
    assert_eq!(said.mails().iter().filter(|m| m["kind"] == "none").count(), 2, "{}", said.out);

    let said = run(&["gone.eml"]);
    assert_eq!((said.code, said.err.contains("the other mails")), (2, false), "{}", said.err);
    let said = run(&["gone.eml", "good.eml"]);
    assert!(said.err.contains("; the other mails are read all the same"), "{}", said.err);
    assert!(said.code == 2 && said.out.contains("good.eml: bounce"), "{}", said.out);
    let said = run(&["quarantin", "list"]);
    let expected = "carom: quarantin: there is no such file; did you mean carom report quarantine?\n";
    assert_eq!((said.code, said.err.as_str()), (2, expected));
}

#[test]
fn a_recipient_that_was_reached_has_no_category() {
    let both = DSN.replace(
        "\n--b\nContent-Type: text/rfc822-headers",
        "\nFinal-Recipient: rfc822; bob@example.net\nAction: relayed\nStatus: 2.0.0\n\n--b\nContent-Type: text/rfc822-headers",
    );
    let dir = folder(&[("both.eml", both.as_bytes())]);
    let said = report(dir.path(), &["--json", "both.eml"], b"");
    let results = &said.mails()[0]["results"];
    assert_eq!((&results[0]["category"], &results[0]["hard"]), (&"bad-mailbox".into(), &true.into()), "{}", said.out);
    assert_eq!((&results[1]["action"], &results[1]["category"]), (&"relayed".into(), &Value::Null), "{}", said.out);
}
