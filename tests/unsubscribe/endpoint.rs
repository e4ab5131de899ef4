//! The endpoint over real sockets: what GET, POST and everything else are answered, and what stands in the ledger.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use carom::config::{Config, Live};
use carom::disk::RealDisk;
use carom::event::unsubscribe_token::{Unsubscription, mint};
use carom::event::{Kind, MessageId, StoreId, Time, TokenKey};
use carom::manage::door::Shown;
use carom::manage::unsubscribe::Service;
use carom::manage::unsubscribe::listener::Bound;
use carom::store::{Options, Store};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

pub const PATIENCE: Duration = Duration::from_secs(8);
pub const FORM: &str = "application/x-www-form-urlencoded";
pub const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// A running endpoint with a store of its own.
pub struct Endpoint {
    pub address: SocketAddr,
    pub store: Store,
    pub config: Live,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn config(lines: &str) -> Config {
    let text = format!(
        "host-name mx.example.com\npostmaster p@example.com\nspool /nowhere\nsmtp-listener 127.0.0.1:0\n\
         <return-path-token>\nkey new 0123456789abcdef0123456789abcdef\nkey old fedcba9876543210fedcba9876543210\n\
         </return-path-token>\n<source 127.0.0.0/8>\nadd-list-unsubscribe yes\nlist-unsubscribe-url https://u.example.com\n\
         </source>\n<unsubscribe-listener 127.0.0.1:0>\n{lines}\n</unsubscribe-listener>\n"
    );
    let loaded = carom::config::parse_str("test", &text);
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

impl Endpoint {
    /// `lines` stand in the `<unsubscribe-listener>`.
    pub async fn start(lines: &str) -> Endpoint {
        Endpoint::with(lines, None).await
    }

    pub async fn with(lines: &str, tls: Option<Shown>) -> Endpoint {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 4 << 20, reserve_bytes: 0, ..Options::default() };
        let store = Store::open(Arc::new(RealDisk), dir.path(), &options).unwrap().store;
        let config: Live = Arc::new(ArcSwap::from_pointee(config(lines)));
        let bound = Bound::new(&config.load().unsubscribe_listeners[0], tls).unwrap();
        let address = bound.address();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(bound.serve(Service::new(store.clone(), config.clone()), stopped));
        Endpoint { address, store, config, stop, task, _dir: dir }
    }

    pub fn keys(&self) -> Vec<TokenKey> {
        self.config.load().return_path_token.clone().unwrap().keys
    }

    /// The path of the link for somebody.
    pub fn link(&self, rcpt: &str) -> String {
        let who = Unsubscription {
            store: self.store.id(),
            message: MessageId(77),
            rcpt_index: 2,
            time_queued: Time::from_secs(1_800_000_000),
            rcpt: rcpt.into(),
            list: "weekly".into(),
            orig: "news@example.com".into(),
            job: "spring".into(),
        };
        format!("/u/{}", mint(&self.keys(), Time::from_secs(1_800_000_001), &who).unwrap())
    }

    /// All unsubscriptions that are durable.
    pub fn recorded(&self) -> Vec<(String, String)> {
        let ledger = self.store.ledger();
        let mut reader = ledger.reader(ledger.start()).unwrap();
        let mut seen = Vec::new();
        while let Some(chunk) = reader.next(1000).unwrap() {
            for batch in chunk.batches() {
                for event in batch.iter().map(Result::unwrap) {
                    assert_eq!(
                        (event.kind, event.feedback_type, event.format),
                        (Kind::Feedback, "opt-out-list", "unsubscribe")
                    );
                    assert!(event.is_proved());
                    assert_eq!((event.list, event.job, event.orig), ("weekly", "spring", "news@example.com"));
                    assert_eq!((event.message, event.rcpt_index), (MessageId(77), 2));
                    seen.push((event.rcpt.to_owned(), event.user_agent.to_owned()));
                }
            }
        }
        seen
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub async fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        self.ask_with(method, path, &format!("Content-Type: {kind}\r\n"), body).await
    }

    pub async fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        exchange(self.connect().await, method, path, headers, body).await
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops in time").unwrap();
    }
}

pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: u.example.com\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("an answer in time").unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.into() }
}

#[tokio::test]
async fn opening_the_link_shows_a_page_and_changes_nothing() {
    let e = Endpoint::start("").await;
    let link = e.link("ann@example.net");
    for path in [link.clone(), link.to_uppercase().replace("/U/", "/u/"), link.replace("/u/", "/a/b/")] {
        let got = e.ask("GET", &path, "text/html", "").await;
        assert_eq!(got.status, 200, "{got:?}");
        assert!(got.body.contains("a***@example.net") && got.body.contains("weekly"), "{}", got.body);
        assert!(got.body.contains("<form method=\"post\">"), "{}", got.body);
    }
    let head = e.ask("HEAD", &link, "text/html", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("content-security-policy: default-src 'none'"), "{}", head.head);
    assert_eq!(head.head.matches("content-type:").count(), 1, "{}", head.head);
    assert!(head.head.contains("content-type: text/html"), "{}", head.head);
    assert!(head.head.contains("cache-control: no-store") && head.head.contains("connection: close"));
    assert_eq!(e.recorded(), []);
    e.stop().await;
}

#[tokio::test]
async fn the_button_and_one_click_unsubscribe_and_are_durable_when_they_are_answered() {
    let e = Endpoint::start("").await;
    let button = e.ask("POST", &e.link("ann@example.net"), FORM, "List-Unsubscribe=One-Click&by=page").await;
    assert_eq!(button.status, 200, "{button:?}");
    assert!(button.body.contains("You are unsubscribed"), "{}", button.body);
    assert_eq!(e.recorded(), [("ann@example.net".into(), "page".into())]);

    let multipart = "multipart/form-data; boundary=---FormBoundaryjWmhtjORrn";
    let body = "-----FormBoundaryjWmhtjORrn\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n\
                -----FormBoundaryjWmhtjORrn--\r\n";
    assert_eq!(e.ask("POST", &e.link("bob@example.net"), multipart, body).await.status, 200);
    // As some send it: no content type, the body in chunks.
    let mut stream = e.connect().await;
    let (path, chunks) = (e.link("cid@example.net"), "a\r\nList-Unsub\r\n10\r\nscribe=One-Click\r\n0\r\n\r\n");
    let request = format!("POST {path} HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen: Vec<_> = e.recorded().into_iter().skip(1).collect();
    let one_click = |rcpt: &str| (rcpt.to_owned(), "one-click".to_owned());
    assert_eq!(seen, [one_click("bob@example.net"), one_click("cid@example.net")]);
    e.stop().await;
}

#[tokio::test]
async fn a_second_click_is_answered_like_the_first_and_makes_no_second_event() {
    let e = Endpoint::start("").await;
    for rcpt in ["ann@example.net", "Ann@EXAMPLE.net", "ann@example.net"] {
        assert_eq!(e.ask("POST", &e.link(rcpt), FORM, ONE_CLICK).await.status, 200);
    }
    assert_eq!(e.recorded().len(), 1);
    e.stop().await;
}

#[tokio::test]
async fn a_link_that_is_not_ours_gets_the_same_page_whatever_is_wrong_with_it() {
    let e = Endpoint::start("").await;
    let link = e.link("ann@example.net");
    let forged = {
        let key = TokenKey { id: "new".into(), secret: b"somebody else's".to_vec(), until: None };
        let keys = [key];
        let who = Unsubscription {
            store: StoreId(1),
            message: MessageId(1),
            rcpt_index: 0,
            time_queued: Time::UNKNOWN,
            rcpt: "ann@example.net".into(),
            list: "weekly".into(),
            orig: String::new(),
            job: String::new(),
        };
        format!("/u/{}", mint(&keys, Time::from_secs(1), &who).unwrap())
    };
    let first = e.ask("GET", "/", FORM, "").await;
    assert_eq!(first.status, 404);
    for path in ["/u/", "/robots.txt", "/u/ann@example.net", &link[..link.len() - 1], &format!("{link}a"), &forged] {
        for method in ["GET", "POST"] {
            let got = e.ask(method, path, FORM, ONE_CLICK).await;
            assert_eq!((got.status, &got.body), (404, &first.body), "{method} {path}");
        }
    }
    assert_eq!(e.recorded(), []);
    e.stop().await;
}

#[tokio::test]
async fn links_of_the_old_key_work_until_it_is_taken_out() {
    let e = Endpoint::start("").await;
    let mut old = e.config.load().as_ref().clone();
    old.return_path_token.as_mut().unwrap().keys.remove(0);
    let both = e.config.swap(Arc::new(old));
    let link = e.link("ann@example.net");
    e.config.store(both.clone());
    assert_eq!(e.ask("POST", &link, FORM, ONE_CLICK).await.status, 200, "the new key signs, the old one still counts");
    let mut new = both.as_ref().clone();
    new.return_path_token.as_mut().unwrap().keys.pop();
    e.config.store(Arc::new(new));
    assert_eq!(e.ask("POST", &link, FORM, ONE_CLICK).await.status, 404);
    assert_eq!(e.recorded().len(), 1);
    e.stop().await;
}

#[tokio::test]
async fn other_methods_and_posts_that_ask_for_nothing_are_told_so() {
    let e = Endpoint::start("").await;
    let link = e.link("ann@example.net");
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let got = e.ask(method, &link, FORM, ONE_CLICK).await;
        assert_eq!(got.status, 405, "{method}");
        assert!(got.head.contains("allow: get, head, post"), "{}", got.head);
    }
    for body in ["", "List-Unsubscribe=No", "{}"] {
        assert_eq!(e.ask("POST", &link, FORM, body).await.status, 400, "{body}");
    }
    assert_eq!(e.recorded(), []);
    e.stop().await;
}

#[tokio::test]
async fn over_tls_it_is_the_same() {
    let pair = rcgen::generate_simple_self_signed(["u.example.com".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pair.cert.pem() + &pair.signing_key.serialize_pem()).unwrap();
    let tls = carom::net::server_tls::server_config(Some(file.path()), &[]).unwrap();
    let e = Endpoint::with("request-timeout 3s", Some(Arc::new(ArcSwap::new(tls)))).await;
    // One that never begins its handshake stands in nobody's way.
    let idle = e.connect().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let name = rustls::pki_types::ServerName::try_from("u.example.com").unwrap();
    let stream = connector.connect(name, e.connect().await).await.unwrap();
    let headers = format!("Content-Type: {FORM}\r\n");
    let got = exchange(stream, "POST", &e.link("ann@example.net"), &headers, ONE_CLICK).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(e.recorded().len(), 1);
    drop(idle);
    e.stop().await;
}

#[tokio::test]
async fn when_the_event_can_not_be_kept_nobody_is_told_that_it_was() {
    let e = Endpoint::start("").await;
    e.store.close().await.unwrap();
    let got = e.ask("POST", &e.link("ann@example.net"), FORM, ONE_CLICK).await;
    assert_eq!(got.status, 503, "{got:?}");
    assert!(got.head.contains("retry-after:") && got.body.contains("not unsubscribed yet"), "{got:?}");
    e.stop().await;
}
