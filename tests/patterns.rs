//! `carom patterns` as a postmaster uses it, on files of his own and on a server that hears something new.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs programs")]

mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use server::Server;

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {} {}", self.out, self.err))
    }
}

fn carom(dir: &Path, args: &[&str], input: &str) -> Said {
    use std::io::Write;
    let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
    command.args(args).current_dir(dir).env_remove("CAROM_CONFIG");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: out.status.code().unwrap_or(-1), out: text(&out.stdout), err: text(&out.stderr) }
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A history with PowerMTA's columns: known replies, and two wordings that no shipped rule knows.
fn history(dir: &Path) {
    let mut text = String::from("type,timeLogged,rcpt,dsnStatus,dsnDiag,bounceCat,queue\n");
    let mut row = |kind: &str, rcpt: &str, status: &str, diag: &str| {
        let domain = rcpt.split('@').nth(1).unwrap();
        text.push_str(&format!("{kind},2026-05-01 12:00:00+0000,{rcpt},{status},\"smtp;{diag}\",other,{domain}/v1\n"));
    };
    for n in 0..40 {
        row("b", &format!("u{n}@one.example"), "5.1.1", &format!("550 5.1.1 <u{n}@one.example>: user unknown"));
        row("d", &format!("d{n}@one.example"), "2.0.0", "250 2.0.0 ok");
    }
    for n in 0..30 {
        let name = ["smith", "miller", "jones"][n % 3];
        let diag = format!("550 5.9.9 The grommet of {name} was frobnicated by tenant {n}, ask the zebra");
        row("b", &format!("z{n}@two.example"), "5.9.9", &diag);
    }
    for n in 0..7 {
        row(
            "t",
            &format!("w{n}@three.example"),
            "4.9.9",
            &format!("451 4.9.9 wibble counter at {n} for w{n}@three.example"),
        );
    }
    write(dir, "acct.csv", &text);
}

#[test]
fn lint_finds_each_mistake_at_its_line_and_shows_the_place_in_a_broken_regex() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "good.conf",
        "# e.g. 550 5.9.9 the grommet is frobnicated\n/grommet is frobnicated/ policy-related\n",
    );
    let said = carom(dir.path(), &["patterns", "lint", "--shipped", "good.conf"], "");
    assert_eq!((said.code, said.out.as_str()), (0, "1 rules checked: 0 errors, 0 warnings, 0 notes\n"), "{}", said.err);
    let bad = "/a (b/ other\n# e.g. 550 x\n/^.*$/ bad-mailbx\n# e.g. 550 quite other\n/frobnicated/ other\nrubbish\n";
    write(dir.path(), "bad.conf", bad);
    let said = carom(dir.path(), &["patterns", "lint", "--shipped", "bad.conf"], "");
    assert_eq!(said.code, 1);
    for part in [
        "bad.conf:1: error: the regex can't be read",
        "    /a (b\n       ^\n",
        "bad.conf:3: warning: unknown category \"bad-mailbx\": did you mean bad-mailbox?",
        "bad.conf:3: warning: it matches an empty reply",
        "bad.conf:5: error: it does not match its example",
        "bad.conf:6: error:",
    ] {
        assert!(said.out.contains(part), "{part} in {}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "no colour into a pipe");
    let json = carom(dir.path(), &["patterns", "lint", "--shipped", "--json", "bad.conf"], "").json();
    assert_eq!(json["ok"], false);
    assert!(
        json["findings"].as_array().unwrap().iter().any(|f| f["code"] == "broken-regex" && f["column"] == 3),
        "{json}"
    );
    assert_eq!(carom(dir.path(), &["patterns", "lint", "none.conf"], "").code, 2);
    // A configuration is linted by the rules in it.
    write(
        dir.path(),
        "carom.conf",
        "host-name m.example\nbounce-pattern-file good.conf\n<bounce-category-patterns>\n/x*/ other\n</bounce-category-patterns>\n",
    );
    let said = carom(dir.path(), &["patterns", "lint", "carom.conf"], "");
    assert!(
        said.code == 1 && said.out.contains("carom.conf:4: warning: it matches an empty reply"),
        "{} {}",
        said.out,
        said.err
    );
}

#[test]
fn explain_marks_what_a_rule_matched_in_the_reply_as_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["a@b.example", "ann@b.example", "a.very.long.name+tag@mail.some-long-domain.example"] {
        let reply = format!("550 5.1.1 <{address}>: user unknown");
        let said = carom(dir.path(), &["patterns", "explain", "--shipped", &reply], "");
        assert_eq!(said.code, 0, "{}", said.err);
        let line = said.out.lines().find(|line| line.starts_with("reply")).unwrap();
        let (_, marked) = line.split_once("[[").unwrap();
        let (marked, _) = marked.split_once("]]").unwrap();
        assert!(marked.contains("user unknown"), "{line}");
        let json = carom(dir.path(), &["patterns", "explain", "--shipped", "--json", &reply], "").json();
        let decides = json["matches"].as_array().unwrap().iter().find(|m| m["decides"] == true).unwrap();
        assert!(decides["matched"].as_str().unwrap().contains("user unknown"), "{json}");
    }
}

#[test]
fn the_shipped_rules_have_no_errors() {
    let dir = tempfile::tempdir().unwrap();
    let json = carom(dir.path(), &["patterns", "lint", "--shipped", "--json"], "").json();
    let errors: Vec<&Value> =
        json["findings"].as_array().unwrap().iter().filter(|f| f["severity"] == "error").collect();
    assert!(errors.is_empty() && json["rules"].as_u64().unwrap() > 20, "{errors:#?}");
}

#[test]
fn explain_shows_what_decides_and_whether_the_recipient_is_suppressed() {
    let dir = tempfile::tempdir().unwrap();
    let own = "# e.g. 550 vip user unknown\n/vip .*unknown/ vip-lost\n";
    write(dir.path(), "own.conf", own);
    let explain = |args: &[&str], input: &str| {
        let all: Vec<&str> = ["patterns", "explain", "--shipped"].iter().chain(args).copied().collect();
        carom(dir.path(), &all, input)
    };
    let said = explain(&["550 5.1.1 <ann@b.example>: user unknown"], "");
    assert_eq!(said.code, 0, "{}", said.err);
    for part in ["[[", "<address>", "bad-mailbox, hard", "suppresses  yes, at once, by the suppression rule `hard`"] {
        assert!(said.out.contains(part), "{part} in {}", said.out);
    }
    let json = explain(&["--json", "--stage", "mail", "550 5.1.1 user unknown"], "").json();
    assert_eq!(
        (&json["category"], &json["suppress"]),
        (&"bad-mailbox".into(), &false.into()),
        "MAIL is not about the recipient"
    );
    let json = explain(&["--json", "--rules", "own.conf", "550 vip user unknown"], "").json();
    assert_eq!((&json["category"], &json["rule"]), (&"vip-lost".into(), &"own.conf:2".into()));
    let matches = json["matches"].as_array().unwrap();
    assert!(
        matches.len() > 1 && matches[0]["matched"] == "vip user unknown" && matches[0]["decides"] == true,
        "{json}"
    );
    let said = explain(&["--json"], "550-5.1.1 user\n550 5.1.1 unknown\n421 4.9.9 zzz\n");
    let lines: Vec<Value> = said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["text"]), (2, &"550 5.1.1 user unknown".into()));
    assert_eq!((said.code, &lines[1]["byPattern"]), (1, &false.into()));
}

#[test]
fn what_no_rule_knows_is_grouped_with_a_rule_that_then_knows_it_and_changes_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    history(dir.path());
    let unmatched = |args: &[&str]| {
        let all: Vec<&str> =
            ["patterns", "unmatched", "--shipped", "--acct", "acct.csv"].iter().chain(args).copied().collect();
        carom(dir.path(), &all, "")
    };
    let said = unmatched(&["--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let json = said.json();
    assert_eq!((&json["events"], &json["unmatched"], &json["groups"]), (&77.into(), &37.into(), &2.into()), "{json}");
    let first = &json["templates"][0];
    assert_eq!(first["template"], "550 5.9.9 The grommet of <*> was frobnicated by tenant <n>, ask the zebra");
    assert_eq!((&first["events"], &first["providers"][0]["provider"]), (&30.into(), &"two.example".into()));
    assert_eq!(first["examples"].as_array().unwrap().len(), 3);
    let text = unmatched(&[]).out;
    assert!(text.contains("30 events, 81.1 %") && text.contains("rule /"), "{text}");
    // The suggestions, written to a file, are good rules and leave nothing unmatched.
    let said = unmatched(&["--write", "own.conf"]);
    assert!(said.err.contains("2 rules appended to own.conf"), "{}", said.err);
    let lint = carom(dir.path(), &["patterns", "lint", "--shipped", "own.conf"], "");
    assert_eq!(lint.code, 0, "{}", lint.out);
    let test = carom(dir.path(), &["patterns", "test", "--shipped", "own.conf"], "");
    assert!(test.code == 0 && test.out.contains("all good"), "{}", test.out);
    let json = unmatched(&["--json", "--rules", "own.conf"]).json();
    assert_eq!(json["unmatched"], 0, "{json}");
    let args = ["patterns", "diff", "--shipped", "--acct", "acct.csv", "--new", "own.conf", "--json"];
    let diff = carom(dir.path(), &args, "").json();
    assert_eq!(diff["newlySuppressed"], serde_json::json!([]), "{diff}");
    for change in diff["changes"].as_array().unwrap() {
        assert!(!change["oldRule"].as_str().unwrap().contains(".conf"), "{change}");
    }
}

#[test]
fn diff_names_who_would_be_suppressed_and_who_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    history(dir.path());
    write(dir.path(), "new.conf", "/the grommet of .* was frobnicated/ bad-mailbox\n/user unknown/ policy-related\n");
    let args = ["patterns", "diff", "--shipped", "--acct", "acct.csv", "--new", "new.conf"];
    let said = carom(dir.path(), &[&args[..], &["--json"]].concat(), "");
    assert_eq!(said.code, 1, "{}", said.err);
    let json = said.json();
    assert_eq!(json["changedEvents"], 70);
    let names = |what: &str| json[what].as_array().unwrap().len();
    assert_eq!((names("newlySuppressed"), names("noLongerSuppressed")), (30, 40), "{json}");
    assert_eq!(json["newlySuppressed"][0], "z0@two.example");
    let text = carom(dir.path(), &args, "").out;
    assert!(text.contains("30 recipients would newly be suppressed") && text.contains("u0@one.example"), "{text}");
    // The same rules on both sides change nothing.
    let same = carom(dir.path(), &[&args[..], &["--old", "new.conf"]].concat(), "");
    assert_eq!(same.code, 0, "{}", same.out);
    let broken = write(dir.path(), "broken.conf", "/(/ other\n");
    let said = carom(
        dir.path(),
        &["patterns", "diff", "--acct", "acct.csv", "--shipped", "--new", broken.to_str().unwrap()],
        "",
    );
    assert!(said.code == 2 && said.err.contains("broken.conf:1"), "{}", said.err);
}

#[test]
fn coverage_counts_by_what_decides_and_names_rules_that_never_did() {
    let dir = tempfile::tempdir().unwrap();
    history(dir.path());
    write(dir.path(), "own.conf", "/grommet/ policy-related\n/never heard/ other\n");
    let args = ["patterns", "coverage", "--acct", "acct.csv", "--shipped", "--rules", "own.conf"];
    let json = carom(dir.path(), &[&args[..], &["--json"]].concat(), "").json();
    assert_eq!(
        (&json["events"], &json["rows"], &json["decidedByPattern"]),
        (&77.into(), &117.into(), &70.into()),
        "{json}"
    );
    assert!(json["neverFired"].as_array().unwrap().iter().any(|r| r["rule"] == "own.conf:2"));
    assert!(json["byRule"].as_array().unwrap().iter().any(|r| r["rule"] == "own.conf:1" && r["events"] == 30));
    let text = carom(dir.path(), &args, "").out;
    assert!(text.contains("decided by a pattern") && text.contains("own.conf:1") && text.contains("90.9 %"), "{text}");
    let recorded = carom(dir.path(), &["patterns", "coverage", "--acct", "acct.csv", "--json"], "").json();
    assert_eq!((&recorded["reclassified"], &recorded["ruleNotRecorded"]), (&false.into(), &77.into()));
    assert_eq!(carom(dir.path(), &["patterns", "coverage", "--acct", "no*.csv"], "").code, 1);
}

#[test]
fn new_words_of_a_provider_reach_the_postmaster_with_a_rule_and_are_no_news_after_a_restart() {
    let mut server = Server::new("novelty-alarm-count 5\nnovelty-alarm-within 2m\n");
    server.start();
    for n in 0..6 {
        server.send(&format!("odd{n}@there.example"));
    }
    let status = server.wait_for("the alarm", |s| s["novelty"]["alarms"].as_array().is_some_and(|a| !a.is_empty()));
    let alarm = &status["novelty"]["alarms"][0];
    assert_eq!((&alarm["provider"], &alarm["count"]), (&"there.example".into(), &5.into()), "{alarm}");
    assert!(
        alarm["proposal"].as_str().unwrap().contains("the zebra/ ")
            || alarm["proposal"].as_str().unwrap().contains("frobnicated"),
        "{alarm}"
    );
    let mail = server.mail_to("p@mta.patterns.example");
    assert!(
        mail.contains("A reply never seen before, from there.example") && mail.contains("carom patterns apply"),
        "{mail}"
    );
    assert!(server.log().contains("a reply never seen before"));
    let shown = server.carom(&["status"]);
    assert!(shown.out.contains("NEW REPLIES") && shown.out.contains("there.example"), "{}", shown.out);

    // The proposed rule, put into the file that the configuration names.
    let proposal = alarm["proposal"].as_str().unwrap().to_owned();
    std::fs::write(server.path("own.conf"), "/(/ other\n").unwrap();
    let said = server.carom(&["patterns", "apply"]);
    assert!(said.code == 2 && said.err.contains("own.conf:1"), "{} {}", said.out, said.err);
    std::fs::write(server.path("own.conf"), &proposal).unwrap();
    let said = server.carom(&["patterns", "apply"]);
    assert!(said.code == 0 && said.out.contains("configuration reloaded"), "{} {}", said.out, said.err);

    server.stop();
    server.start();
    for n in 10..20 {
        server.send(&format!("odd{n}@there.example"));
    }
    server.wait_for("all to be tried", |s| s["queuedRecipients"] == 0);
    let status = server.wait_for("the consumer", |s| {
        s["consumers"].as_array().is_some_and(|c| c.iter().any(|c| c["consumer"] == "novelty" && c["behind"] == 0))
    });
    assert_eq!(status["novelty"]["alarms"].as_array().unwrap().len(), 1, "{status}");
    server.stop();
}
