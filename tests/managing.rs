//! The suppression list as an operator manages it: by command with a server and without one, and over HTTP.
//!
//! The real program, on ports that were free, in a folder of its own; every wait is bounded.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

use std::io::Write;
use std::time::Duration;

use crate::running::client::Client;
use crate::running::http::{Answer, Http};
use crate::running::next_hop::NextHop;
use crate::running::server::{Place, free_port};
use carom::manage::SuppressionCommand;
use serde_json::{Value, json};

const STOPS_WITHIN: Duration = Duration::from_secs(20);

fn json_of(said: &str) -> Value {
    let line = said.lines().rev().find(|l| l.starts_with('{')).unwrap_or_else(|| panic!("no JSON: {said}"));
    serde_json::from_str(line).unwrap()
}

/// A command that must work; what it said.
fn ok(place: &Place, args: &[&str]) -> String {
    let (code, said) = place.carom(args);
    assert_eq!(code, 0, "{args:?}: {said}");
    said
}

/// What one can do without a server, and with one, in the same words.
fn the_whole_round(place: &Place) {
    ok(place, &["suppress", "add", "Ann@There.Example", "@gone.example", "--reason", "phone", "--operator", "eve"]);
    ok(place, &["suppress", "add", "ann@there.example", "--scope", "list:weekly", "--reason", "left"]);
    ok(place, &["suppress", "add", "carl@there.example", "--expire", "90d"]);
    assert_eq!(place.carom(&["suppress", "add", "x@y.example", "--expire", "2001-01-01"]).0, 2);
    assert_eq!(place.carom(&["suppress", "add", "x@y.example", "--scope", "planet earth"]).0, 2);

    let said = ok(place, &["suppress", "list", "--json"]);
    assert_eq!(said.lines().count(), 4, "{said}");
    let said = ok(place, &["suppress", "list", "--scope", "list", "--json"]);
    assert_eq!((json_of(&said)["scope"].as_str(), said.lines().count()), (Some("list weekly"), 1));
    assert!(ok(place, &["suppress", "list", "--contains", "carl"]).contains("[until "));
    let first = json_of(&ok(place, &["suppress", "list", "--limit", "1", "--json"]));
    let rest = ok(place, &["suppress", "list", "--after", first["key"].as_str().unwrap(), "--json"]);
    assert_eq!(rest.lines().count(), 3, "paging goes on behind the key: {rest}");

    let (code, said) = place.carom(&["suppress", "check", "anybody@Gone.Example"]);
    assert!(code == 1 && said.contains("with all of @gone.example"), "{said}");
    assert_eq!(place.carom(&["suppress", "check", "nobody@there.example"]).0, 0);
    std::fs::write(place.path("who"), "ann@there.example\nnobody@there.example\nnonsense\n").unwrap();
    let (code, said) = place.carom(&["suppress", "check", "--file", "who"]);
    assert!(code == 1 && said.contains("nobody@there.example: not suppressed"), "{said}");
    assert!(said.contains("address has no @") && said.contains("1 could not be looked up"), "{said}");
    // printf ann@there.example | sha256sum
    let sum =
        data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, b"ann@there.example").as_ref());
    assert_eq!(place.carom(&["suppress", "check", "--hashed", &sum, "00112233445566778899aabbccddeeff"]).0, 1);

    let (code, _) = place.carom(&["suppress", "remove", "ann@there.example"]);
    assert_eq!(code, 2, "a removal needs a reason");
    let said = ok(place, &["suppress", "remove", "ann@there.example", "--reason", "came back", "--operator", "eve"]);
    assert!(said.contains("still suppressed for: list weekly"), "{said}");
    assert_eq!(place.carom(&["suppress", "check", "ann@there.example"]).0, 0);
    let (code, said) = place.carom(&["suppress", "check", "ann@there.example", "--list", "Weekly"]);
    assert!(code == 1 && said.contains("(list weekly)"), "{said}");

    let both = ok(place, &["suppress", "show", "ann@there.example", "nobody@there.example", "--json"]);
    let subjects: Vec<_> = both.lines().map(|line| json_of(line)["subject"].clone()).collect();
    assert_eq!(subjects, ["ann@there.example", "nobody@there.example"], "{both}");
    let shown = json_of(&ok(place, &["suppress", "show", "ann@there.example", "--json"]));
    assert_eq!(shown["entries"].as_array().unwrap().len(), 2);
    assert_eq!(shown["hash"].as_str(), sum.get(..32));
    let said = ok(place, &["suppress", "history", "ann@there.example"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 3 && lines[2].contains("remove") && lines[2].contains("by eve: came back"), "{said}");
    assert!(ok(place, &["suppress", "history", "--since", "1h"]).contains("@gone.example by eve: phone"));

    let stats = json_of(&ok(place, &["suppress", "stats", "--json"]));
    assert_eq!(stats["states"], json!({ "active": 3, "removed": 1 }));
    assert_eq!((&stats["domains"], &stats["scopes"]["list"]), (&json!(1), &json!(1)));
    assert!(ok(place, &["suppress", "stats"]).contains("RULE"));

    let purge = |more: &[&str]| json_of(&ok(place, &[&["suppress", "purge", "--json"], more].concat()));
    assert_eq!(purge(&["--removed-before", "2099-01-01", "--dry-run"])["entries"], 1);
    assert_eq!(purge(&["--removed-before", "2001-01-01", "--reason", "old"])["entries"], 0);
    assert_eq!(purge(&["--removed-before", "2099-01-01", "--reason", "old"])["entries"], 1);
    assert_eq!(place.carom(&["suppress", "purge", "--reason", "all"]).0, 2, "nothing given deletes nothing");
    assert!(ok(place, &["suppress", "history"]).lines().any(|l| l.contains("purge") && l.contains("1 entries: old")));
}

#[test]
fn the_list_is_managed_without_a_server() {
    let place = Place::new(&NextHop::start(), "");
    let mut server = place.start();
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
    the_whole_round(&place);
}

#[test]
fn the_list_is_managed_through_the_running_server_and_what_is_done_holds_at_once() {
    let place = Place::new(&NextHop::start(), "");
    let mut server = place.start();
    let mut client = Client::connect(place.smtp_port());
    assert_eq!(client.rcpt("anybody@gone.example"), 250);
    the_whole_round(&place);
    assert_eq!(client.rcpt("anybody@gone.example"), 550);
    assert_eq!(client.rcpt("ann@there.example"), 250);
    ok(&place, &["suppress", "purge", "--source", "manual", "--reason", "over"]);
    assert_eq!(client.rcpt("anybody@gone.example"), 250);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn a_list_comes_in_and_is_taken_back_bad_lines_are_set_aside_and_an_export_comes_back() {
    let place = Place::new(&NextHop::start(), "");
    let mut server = place.start();
    let mut file =
        flate2::write::GzEncoder::new(std::fs::File::create(place.path("list.csv.gz")).unwrap(), Default::default());
    writeln!(file, "email,created,reason,status").unwrap();
    for n in 0..3_000 {
        let status = if n % 3 == 0 { "4.2.2" } else { "5.1.1" };
        writeln!(file, "u{n}@there.example,1576573113,\"550 \"\"no\"\", gone\",{status}").unwrap();
    }
    writeln!(file, "nonsense,1576573113,x,5.1.1").unwrap();
    file.finish().unwrap();

    let (code, said) = place.carom(&["suppress", "import", "list.csv.gz", "--dry-run"]);
    assert!(code == 1 && said.contains("Format sendgrid-bounces. 2000 entries would be made (hard 2000)"), "{said}");
    assert!(said.contains("1000 left out") && said.contains("line 3002: \"nonsense\": address has no @"), "{said}");
    assert!(!place.path("list.csv.gz.rejected").exists());

    let (code, said) = place.carom(&["suppress", "import", "list.csv.gz", "--json", "--operator", "eve"]);
    assert_eq!(code, 1, "{said}");
    let done = json_of(&said);
    assert_eq!((&done["entered"], &done["skipped"], &done["rejected"]), (&json!(2000), &json!(1000), &json!(1)));
    let aside = std::fs::read_to_string(place.path("list.csv.gz.rejected")).unwrap();
    assert_eq!(aside, "# line 3002: \"nonsense\": address has no @\nnonsense,1576573113,x,5.1.1\n");
    assert_eq!(Client::connect(place.smtp_port()).rcpt("u1@there.example"), 550);
    let (_, said) = place.carom(&["suppress", "check", "u1@there.example"]);
    assert!(said.contains("by import since 2019-12-17T08:58:33Z: 550 \"no\", gone"), "{said}");

    // Once more: nobody is entered twice.
    let again = json_of(&place.carom(&["suppress", "import", "list.csv.gz", "--json"]).1);
    assert_eq!((&again["entered"], &again["already"], &again["batch"]), (&json!(0), &json!(2000), &json!(2)));

    // Out, taken back, in again: the same.
    ok(&place, &["suppress", "export", "--output", "out.csv"]);
    ok(&place, &["suppress", "export", "--hashed", "sha256", "--format", "newline", "--output", "sums"]);
    std::fs::write(place.path("key"), "0123456789abcdef0123456789abcdef\n").unwrap();
    ok(&place, &["suppress", "export", "--hashed", "hmac", "--key-file", "key", "--output", "tags"]);
    let purged = json_of(&ok(
        &place,
        &["suppress", "purge", "--source", "import", "--batch", "1", "--reason", "test", "--json"],
    ));
    assert_eq!((&purged["entries"], &purged["active"]), (&json!(2000), &json!(2000)));
    assert_eq!(Client::connect(place.smtp_port()).rcpt("u1@there.example"), 250);
    let back = json_of(&ok(&place, &["suppress", "import", "out.csv", "--json"]));
    assert_eq!((&back["entered"], &back["format"]), (&json!(2000), &json!("carom")));
    ok(&place, &["suppress", "export", "--output", "out2.csv"]);
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let (one, two) = (read("out.csv"), read("out2.csv"));
    assert_eq!(one.lines().count(), 2001);
    assert_eq!(one.lines().next(), two.lines().next());
    assert!(one == two, "what was written is what was read");
    assert!(!read("sums").contains('@') && !read("tags").contains('@'));
    assert_eq!(read("sums").lines().next().map(str::len), Some(64));

    // A list of sums suppresses whom it stands for, and tells nobody who that is.
    ok(&place, &["suppress", "purge", "--source", "import", "--reason", "test"]);
    ok(&place, &["suppress", "import", "sums", "--hashed", "sha256"]);
    assert_eq!(Client::connect(place.smtp_port()).rcpt("U1@There.example"), 550);
    assert!(!ok(&place, &["suppress", "list", "--limit", "10"]).contains("u1@"));
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn an_import_whose_server_was_killed_goes_on_where_it_stopped() {
    let place = Place::new(&NextHop::start(), "");
    let list: String = (0..60_000).map(|n| format!("u{n}@there.example\n")).collect();
    std::fs::write(place.path("list"), list).unwrap();
    let mut server = place.start();
    let mut importing = std::process::Command::new(env!("CARGO_BIN_EXE_carom"))
        .args(["suppress", "import", "list", "--config", "carom.conf", "--root", "."])
        .current_dir(place.path("."))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    place.wait_for("the first rows", |s| s["suppressedAddresses"].as_u64().is_some_and(|n| n > 0));
    importing.kill().unwrap();
    importing.wait().unwrap();
    server.signal("KILL");
    server.wait(STOPS_WITHIN);
    let mut server = place.start();
    let done = json_of(&ok(&place, &["suppress", "import", "list", "--json"]));
    assert_eq!((&done["entered"], &done["already"]), (&json!(60_000), &json!(0)), "each once");
    assert_eq!((&done["batch"], &done["done"]), (&json!(1), &json!(60_000)));
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn a_large_list_is_merged_as_a_whole_suppresses_at_once_and_is_taken_back() {
    let place = Place::new(&NextHop::start(), "");
    let mut list: String = (0..19_900).map(|n| format!("u{n}@there.example\n")).collect();
    (0..100).for_each(|n| list.push_str(&format!("U{n}@There.Example\n")));
    std::fs::write(place.path("list"), list + "nonsense\n").unwrap();
    let mut server = place.start();
    ok(&place, &["suppress", "add", "u7@there.example", "--reason", "phone"]);
    ok(&place, &["suppress", "add", "carl@there.example", "--expire", "1s", "--reason", "soon over"]);

    let (code, said) = place.carom(&["suppress", "import", "list", "--bulk", "--json", "--reason", "moved"]);
    assert_eq!(code, 1, "a line was set aside: {said}");
    let done = json_of(&said);
    assert_eq!((&done["batch"], &done["phase"], &done["rows"]), (&json!(1), &json!("done"), &json!(20_000)), "{said}");
    // u7 came twice: of each key the first row counts, and that one was on the list.
    assert_eq!((&done["entered"], &done["already"], &done["doubles"]), (&json!(19_899), &json!(1), &json!(100)));
    assert_eq!(Client::connect(place.smtp_port()).rcpt("u19899@there.example"), 550);
    assert_eq!(Client::connect(place.smtp_port()).rcpt("u19900@there.example"), 250);
    let said = ok(&place, &["suppress", "history", "--since", "1h"]);
    assert!(said.contains("batch 1: 19899 entries of 20000 rows from list: moved"), "{said}");
    let said = ok(&place, &["suppress", "stats"]);
    assert!(said.contains("LARGE IMPORT") && said.contains("list: moved"), "{said}");

    let purge = ["suppress", "purge", "--batch", "1", "--reason", "test", "--json"];
    assert_eq!(json_of(&ok(&place, &purge))["entries"], 19_899);
    assert_eq!(Client::connect(place.smtp_port()).rcpt("u19899@there.example"), 250);
    assert_eq!(Client::connect(place.smtp_port()).rcpt("u7@there.example"), 550, "by hand, not by the list");
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);

    // Without a server the command itself stays until all is in.
    let said = place.carom(&["suppress", "import", "list", "--bulk", "--json"]).1;
    assert_eq!((&json_of(&said)["batch"], &json_of(&said)["entered"]), (&json!(2), &json!(19_899)), "{said}");
    // Carl's time is over by then: what has ended is deleted at the start, and every half a minute after that.
    std::thread::sleep(Duration::from_millis(1100));
    let mut server = place.start();
    assert_eq!(Client::connect(place.smtp_port()).rcpt("u1@there.example"), 550);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !ok(&place, &["suppress", "history", "carl@there.example"]).contains("expire") {
        assert!(std::time::Instant::now() < end, "what has ended is deleted: {}", place.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn a_large_list_whose_server_was_killed_while_it_was_merged_is_finished_by_the_next_one() {
    let place = Place::new(&NextHop::start(), "");
    let list: String = (0..40_000).map(|n| format!("u{n}@there.example\n")).collect();
    std::fs::write(place.path("list"), list).unwrap();
    let mut server = place.start();
    let mut importing = std::process::Command::new(env!("CARGO_BIN_EXE_carom"))
        .args(["suppress", "import", "list", "--bulk", "--config", "carom.conf", "--root", "."])
        .current_dir(place.path("."))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(60);
    let import = || json_of(&ok(&place, &["suppress", "stats", "--json"]))["bulkImports"][0].clone();
    // Asked over the socket itself, which takes no time: the merging takes little.
    let asked = carom::manage::Command::Suppression(SuppressionCommand::BulkStatus { batch: 1 });
    let is_merging = || match carom::manage::socket::ask(&place.path("spool/carom.sock"), &asked).unwrap() {
        carom::manage::Answer::Success { data, .. } => {
            assert_ne!(data["phase"], "done", "too late for a kill");
            data["phase"] == "merging"
        }
        // It has not begun.
        carom::manage::Answer::Error { .. } => false,
    };
    while !is_merging() {
        assert!(std::time::Instant::now() < end, "{}", place.log());
        std::thread::sleep(Duration::from_millis(2));
    }
    server.signal("KILL");
    server.wait(STOPS_WITHIN);
    assert!(!importing.wait().unwrap().success(), "who waits for it hears that it has not ended");
    let mut server = place.start();
    while import()["phase"] != "done" {
        assert!(std::time::Instant::now() < end, "{}", import());
        std::thread::sleep(Duration::from_millis(50));
    }
    let done = import();
    assert_eq!((&done["merged"], &done["entered"]), (&json!(40_000), &json!(40_000)), "each once");
    assert!(place.log().contains("an import goes on"), "{}", place.log());
    assert_eq!(Client::connect(place.smtp_port()).rcpt("u39999@there.example"), 550);
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn who_is_forgotten_stays_suppressed_and_is_named_nowhere() {
    let place = Place::new(&NextHop::start(), "");
    let mut server = place.start();
    ok(&place, &["suppress", "add", "Ann@there.example", "--reason", "ann@there.example wrote a letter"]);
    ok(&place, &["suppress", "add", "bob@there.example", "--reason", "asked for by ANN@there.example"]);
    let done = json_of(&ok(&place, &["forget", "ann@There.example", "--operator", "eve", "--json"]));
    assert_eq!(
        (&done["entries"], &done["stillSuppressed"], &done["historyLines"]),
        (&json!(1), &json!(true), &json!(2))
    );
    assert!(!done["notReached"].as_array().unwrap().is_empty());
    assert_eq!(Client::connect(place.smtp_port()).rcpt("ann@there.example"), 550);
    let everything = ok(&place, &["suppress", "history", "--json"])
        + &ok(&place, &["suppress", "export", "--format", "json", "--contains", "bob"]);
    assert!(!everything.to_lowercase().contains("ann@"), "{everything}");
    assert!(everything.contains(r#""change":"forget""#) && everything.contains(r#""who":"eve""#), "{everything}");
    let nobody = ok(&place, &["forget", "zoe@there.example"]);
    assert!(nobody.contains("It was not suppressed") && nobody.contains("acct files"), "{nobody}");
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn a_list_of_hashes_holds_no_address_and_opens_with_its_own_key_alone() {
    let key = "suppression-hash-key 0123456789abcdef-one\n";
    let place = Place::new(&NextHop::start(), &format!("suppression-storage hashed\n{key}"));
    let mut server = place.start();
    ok(&place, &["suppress", "add", "ann@there.example", "--reason", "ann@there.example phoned"]);
    assert_eq!(Client::connect(place.smtp_port()).rcpt("Ann@there.example"), 550);
    assert_eq!(place.carom(&["suppress", "check", "--hashed", &"00".repeat(32)]).0, 1, "plain sums mean nothing here");
    let all = ok(&place, &["suppress", "list", "--json"]) + &ok(&place, &["suppress", "history", "--json"]);
    assert!(!all.contains("ann@") && all.contains("*** phoned"), "{all}");
    assert!(!place.log().contains("ann@there.example"), "{}", place.log());
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
    let bytes = std::fs::read(place.path("spool/suppress.redb")).unwrap();
    assert!(!bytes.windows(4).any(|w| w == b"ann@"), "nor is it anywhere in the file");

    place.write(&place.config().replace("abcdef-one", "abcdef-two"));
    let (code, said) = place.carom(&["suppress", "list"]);
    assert!(code == 1 && said.contains("another suppression-hash-key") && !said.contains("abcdef-t"), "{said}");
}

fn http(more: &str) -> (Place, u16) {
    let port = free_port();
    let place = Place::new(&NextHop::start(), &format!("http-mgmt-port {port}\n{more}"));
    (place, port)
}

#[test]
fn over_http_the_same_can_be_done() {
    let (place, port) = http("http-access 127.0.0.1 admin\n");
    let mut server = place.start();
    let api = Http::new(port);
    let get = |path: &str| api.ask("GET", path, &[], "");
    let post =
        |path: &str, body: Value| api.ask("POST", path, &[("Content-Type", "application/json")], &body.to_string());
    assert_eq!(get("/api/v1/status").json()["intake"], "open");
    let added = post("/api/v1/suppressions", json!({ "subjects": ["Ann@there.example", "no"], "reason": "phone" }));
    assert_eq!((added.status, &added.json()["changed"], &added.json()["failed"]), (200, &json!(1), &json!(1)));
    assert_eq!(Client::connect(place.smtp_port()).rcpt("ann@there.example"), 550);
    let shown = get("/api/v1/suppressions/ann%40there.example").json();
    assert_eq!(shown["entries"][0]["note"], "phone");
    assert!(shown["history"][0]["who"].as_str().unwrap().contains("127.0.0.1"));
    let checked =
        post("/api/v1/suppressions/check", json!({ "subjects": ["ann@there.example", "bob@there.example"] })).json();
    assert_eq!(
        (&checked["results"][0]["suppressed"], &checked["results"][1]["suppressed"]),
        (&json!(true), &json!(false))
    );
    let csv = "email,reason\ncarl@there.example,x\nnonsense,y\n";
    let imported =
        api.ask("POST", "/api/v1/suppressions/import?scope=list%20weekly", &[("Content-Type", "text/csv")], csv).json();
    assert_eq!((&imported["entered"], &imported["rejectedLines"][0]["line"]), (&json!(1), &json!(3)));
    let exported = get("/api/v1/suppressions/export?scope=list");
    assert!(exported.body.starts_with("subject,scope") && exported.body.contains("carl@there.example,list weekly"));
    assert_eq!(get("/api/v1/suppressions/stats").json()["states"]["active"], 2);
    let removal = ("Content-Type", "application/json");
    let removed = api.ask("DELETE", "/api/v1/suppressions/ann%40there.example", &[removal], r#"{"reason":"back"}"#);
    assert_eq!((removed.status, &removed.json()["changed"]), (200, &json!(1)));
    assert_eq!(Client::connect(place.smtp_port()).rcpt("ann@there.example"), 250);
    assert_eq!(post("/api/v1/suppressions/purge", json!({ "batch": 1, "reason": "test" })).json()["entries"], 1);
    assert_eq!(post("/api/v1/forget", json!({ "address": "ann@there.example" })).json()["entries"], 1);
    for (answer, status) in [
        (get("/"), 404),
        (post("/api/v1/suppressions/purge", json!({ "reason": "all" })), 400),
        (api.ask("POST", "/api/v1/forget", &[("Content-Type", "text/plain")], "{}"), 415),
        (api.ask("GET", "/api/v1/status", &[("Origin", "http://evil.example")], ""), 403),
        (api.ask("GET", "/api/v1/status", &[("Host", "evil.example")], ""), 403),
        (api.ask("POST", "/api/v1/suppressions", &[("Content-Type", "application/json")], &" ".repeat(2 << 20)), 413),
    ] {
        assert_eq!((answer.status, answer.json()["error"].is_string()), (status, true), "{}", answer.body);
    }
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
}

#[test]
fn over_http_nobody_gets_in_without_what_is_asked_of_them() {
    let key = "k".repeat(40);
    let (place, port) =
        http(&format!("http-access 127.0.0.1 monitor\nhttp-mgmt-password correct-horse\nhttp-api-key {key}\n"));
    let mut server = place.start();
    // TLS and plain HTTP at one port, on this machine.
    for api in [Http::new(port), Http::tls(port)] {
        assert_eq!(api.ask("GET", "/api/v1/status", &[], "").status, 401);
        let basic = format!("Basic {}", data_encoding::BASE64.encode(b"ann:correct-horse"));
        let ann = [("Authorization", basic.as_str()), ("Content-Type", "application/json")];
        assert_eq!(api.ask("GET", "/api/v1/status", &ann, "").status, 200);
        let body = r#"{"subjects":["a@there.example"],"reason":"x"}"#;
        assert_eq!(api.ask("POST", "/api/v1/suppressions", &ann, body).status, 403, "monitors look");
        let with_key = [("X-API-Key", key.as_str()), ("Content-Type", "application/json")];
        assert_eq!(api.ask("POST", "/api/v1/suppressions", &with_key, body).status, 200);
    }
    let api = Http::new(port);
    let wrong: Vec<u16> =
        (0..6).map(|_| api.ask("GET", "/api/v1/status", &[("X-API-Key", "guess")], "").status).collect();
    assert_eq!(wrong, [401, 401, 401, 401, 401, 429]);
    let log = place.log();
    assert!(!log.contains("correct-horse") && !log.contains(&key) && log.contains("wrong password or key"), "{log}");
    // A reload shuts the door on an address at once.
    place.write(&place.config().replace("http-access 127.0.0.1 monitor", "http-access 10.0.0.0/8 monitor"));
    assert_eq!(place.carom(&["reload"]).0, 0);
    assert_eq!(api.try_ask("GET", "/api/v1/status", &[], "").map(|a: Answer| a.status), None, "it is hung up on");
    server.signal("TERM");
    assert_eq!(server.wait(STOPS_WITHIN), 0);
    let (code, said) =
        Place::new(&NextHop::start(), "http-mgmt-port 1\nhttp-access 10.0.0.0/8 admin\n").carom(&["run"]);
    assert!(code == 2 && said.contains("without a password"), "{said}");
}
