//! `carom send --preflight`, end to end: the real program, a name server with real records, a store or a running server.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: a test that runs servers")]

// What other tests need of these is not used here.
use std::time::{Duration, Instant};

use crate::running::next_hop::NextHop;
use crate::running::server::Place;
use carom::sim::dns::DnsServer;
use carom::sim::zones::Zones;
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::DkimSigner;
use serde_json::Value;

const SIGNED: &str = "From: News <news@s.example>\r\nSubject: Spring\r\n";
const BODY: &str = "\r\nIt is spring.\r\n";
const UNSUBSCRIBE: &str =
    "List-Unsubscribe: <https://s.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";

/// A name server, the configuration that asks it, and its folder.
struct Scene {
    place: Place,
    _hop: NextHop,
    _dns: DnsServer,
    _runtime: tokio::runtime::Runtime,
}

fn scene(zones: Zones) -> Scene {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dns = runtime.block_on(DnsServer::start(zones)).unwrap();
    let hop = NextHop::start();
    let more = format!("name-server {}\nsmtp-source-host 192.0.2.10 mx.s.example\n", dns.address());
    let place = Place::new(&hop, &more);
    std::fs::create_dir(place.path("spool")).unwrap();
    Scene { place, _hop: hop, _dns: dns, _runtime: runtime }
}

/// A sender in good order.
fn zones() -> Zones {
    let mut zones = Zones::new();
    zones.txt("s.example", "google-site-verification=x").txt("s.example", "v=spf1 include:spf.s.example -all");
    zones.txt("spf.s.example", "v=spf1 ip4:192.0.2.8/29 -all").mx("s.example", 10, "mx.s.example");
    zones.txt("_dmarc.s.example", "v=DMARC1; p=reject").address("mx.s.example", "192.0.2.10".parse().unwrap());
    zones.ptr("192.0.2.10".parse().unwrap(), "mx.s.example");
    zones
}

impl Scene {
    /// The exit code and the report.
    fn preflight(&self, list: &str, template: &str) -> (i32, Value) {
        std::fs::write(self.place.path("list.csv"), list).unwrap();
        std::fs::write(self.place.path("mail.eml"), template).unwrap();
        let (code, said) = self.place.carom(&[
            "send",
            "--preflight",
            "--json",
            "--to-csv",
            self.place.path("list.csv").to_str().unwrap(),
            "--template",
            self.place.path("mail.eml").to_str().unwrap(),
            "--from",
            "news@s.example",
            "--dns-timeout",
            "3",
        ]);
        (code, serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}")))
    }
}

/// What was found of a check: the grades and texts.
fn of(report: &Value, check: &str) -> Vec<(String, String)> {
    let text = |f: &Value, name: &str| f[name].as_str().unwrap().to_owned();
    let all = report["findings"].as_array().unwrap().iter();
    all.filter(|f| f["check"] == check).map(|f| (text(f, "grade"), text(f, "text"))).collect()
}

fn worst(report: &Value, check: &str) -> String {
    let found = of(report, check);
    let grade =
        ["problem", "unknown", "warning", "note"].into_iter().find(|g| found.iter().any(|(grade, _)| grade == g));
    grade.unwrap_or(if found.is_empty() { "absent" } else { "fine" }).to_owned()
}

#[test]
fn a_campaign_in_good_order_is_ready_and_nothing_is_sent() {
    let key = Ed25519Key::from_pkcs8_der(&Ed25519Key::generate_pkcs8().unwrap()).unwrap();
    let mut zones = zones();
    let public = data_encoding::BASE64.encode(&key.public_key());
    zones.txt("k1._domainkey.s.example", &format!("v=DKIM1; k=ed25519; p={public}"));
    let signer = DkimSigner::from_key(key).domain("s.example").selector("k1").headers(["From", "Subject"]);
    let header = signer.sign(format!("{SIGNED}{BODY}").as_bytes()).unwrap().to_header();
    let scene = scene(zones);
    let (code, report) =
        scene.preflight("email\nann@a.example\nbo@b.example\n", &format!("{header}{UNSUBSCRIBE}{SIGNED}{BODY}"));
    assert_eq!(code, 0, "{report:#}");
    for check in ["spf", "reverse-dns", "return-path", "dkim", "dmarc", "unsubscribe", "list"] {
        assert_eq!(worst(&report, check), "fine", "{check}: {report:#}");
    }
    assert_eq!(of(&report, "dmarc")[0].1, "From is aligned by SPF and DKIM");
    assert_eq!((&report["ready"], &report["list"]["recipients"]), (&true.into(), &2.into()));
    assert!(scene._hop.said().is_empty());
    assert!(!scene.place.path("list.csv.send-state").exists());

    // The same, tampered with.
    let (code, report) =
        scene.preflight("email\nann@a.example\n", &format!("{header}{UNSUBSCRIBE}{SIGNED}\r\nIt is summer.\r\n"));
    assert_eq!((code, worst(&report, "dkim")), (1, "problem".to_owned()), "{report:#}");
    assert_eq!(of(&report, "dmarc")[0].1, "From is aligned by SPF");
}

#[test]
fn what_would_hurt_is_named_with_the_running_servers_word_on_the_list() {
    let mut zones = Zones::new();
    zones.txt("s.example", "v=spf1 ip4:192.0.2.99 -all").address("mx.s.example", "192.0.2.11".parse().unwrap());
    let scene = scene(zones);
    let _server = scene.place.start();
    for address in ["gone@a.example", "left@b.example"] {
        assert_eq!(scene.place.carom(&["suppress", "add", address]).0, 0);
    }
    let mut list = "email\nGONE@a.example\nleft@b.example\nno address\nbo@b.example\nBo@B.example\n".to_owned();
    (0..2500).for_each(|n| list.push_str(&format!("u{n}@c.example\n")));
    let (code, report) = scene.preflight(&list, &format!("{SIGNED}Date: Mon, 01 Jan 2024 10:00:00 +0000\r\n{BODY}"));
    assert_eq!(code, 1);
    assert_eq!(of(&report, "spf"), [("problem".to_owned(), "s.example forbids it".to_owned())]);
    assert!(of(&report, "reverse-dns")[0].1.contains("no PTR record"), "{report:#}");
    assert!(of(&report, "dmarc")[0].1.contains("no DMARC record"), "{report:#}");
    assert_eq!(of(&report, "unsubscribe")[0].1, "there is no List-Unsubscribe");
    assert_eq!(of(&report, "header")[0].1, "Date is days away from now");
    assert!(of(&report, "return-path")[0].1.contains("no way back"), "{report:#}");
    let all = &report["list"];
    assert_eq!(
        (&all["recipients"], &all["malformed"], &all["doubled"], &all["suppressed"]),
        (&2505.into(), &1.into(), &1.into(), &2.into())
    );
    let b = all["providers"].as_array().unwrap().iter().find(|p| p["provider"] == "b.example").unwrap();
    assert_eq!((&b["recipients"], &b["doubled"], &b["suppressed"]), (&3.into(), &1.into(), &1.into()));
    // The same for people.
    let (code, said) = scene.place.carom(&[
        "send",
        "--preflight",
        "--to-csv",
        scene.place.path("list.csv").to_str().unwrap(),
        "--subject",
        "x",
        "--body",
        "y",
        "--from",
        "news@s.example",
    ]);
    assert_eq!(code, 1);
    for part in ["PROBLEM", "forbids it", "-> add it to the SPF record", "b.example", "NOT ready"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn dns_that_fails_is_said_to_fail_and_nothing_is_called_missing() {
    let mut broken = zones();
    broken.broken("s.example").broken("_dmarc.s.example").broken("10.2.0.192.in-addr.arpa").broken("mx.s.example");
    let scene = scene(broken);
    let (code, report) = scene.preflight("email\nann@a.example\n", &format!("{UNSUBSCRIBE}{SIGNED}{BODY}"));
    assert_eq!((code, &report["ready"]), (1, &false.into()));
    for check in ["spf", "reverse-dns", "return-path", "dmarc"] {
        assert_eq!(worst(&report, check), "unknown", "{check}: {report:#}");
    }
}

#[test]
fn name_servers_that_say_nothing_hold_it_up_for_bounded_time_only() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let scene = scene(Zones::new());
    let config = scene.place.config();
    let at = config.find("name-server").unwrap();
    let end = at + config[at..].find('\n').unwrap();
    scene.place.write(&config.replace(&config[at..end], &format!("name-server {}", silent.local_addr().unwrap())));
    let begun = Instant::now();
    let (code, report) = scene.preflight("email\nann@a.example\n", &format!("{UNSUBSCRIBE}{SIGNED}{BODY}"));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(code, 1);
    assert_eq!((worst(&report, "spf"), worst(&report, "dmarc")), ("unknown".into(), "unknown".into()), "{report:#}");
}
