#![expect(clippy::disallowed_methods, reason = "tests: reads the dialogues, bounds waiting")]
#![expect(clippy::disallowed_types, reason = "tests: sockets on the loopback")]
//! Mail comes in: dialogues (tests/smtp, see the README there) against the session machine with the real policy, and a
//! few conversations over real sockets, TLS included. Behind the intake stands a spool that only remembers.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use carom::config::{Config, Listener};
use carom::event::{
    Action as DsnAction, EventBatch, EventId, Events, Kind, MessageId, RuleSetId, Scope, SourceType, StoreId, Time,
};
use carom::intake::slots::MAX_HELD;
use carom::intake::smtp_listener::{Identity, bind, serve};
use carom::intake::smtp_policy::{Peer, SmtpPolicy};
use carom::intake::submit::{Accepted, Intake, Spool, Submission, Taken};
use carom::smtp::data::Content;
use carom::smtp::server::{Action, MAX_RECIPIENTS, Session};
use carom::store::{Envelope, Message, RcptState, Route, StoreError};
use carom::suppress::{AddressLists, Entry, Mail, NotLoaded, State, Suppressed, Suppression};
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A spool that remembers.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    last_id: u64,
    full: bool,
    broken: bool,
    list: Suppression,
    address_lists: AddressLists,
    /// Names of lists that can't be asked now.
    not_loaded: HashSet<String>,
    messages: Vec<(Arc<Message>, Events)>,
    admitted: Vec<(MessageId, Vec<u16>)>,
    /// What happened, as the dialogues tell it.
    story: VecDeque<String>,
    ended: Vec<(MessageId, u16, String, u64, String)>,
}

impl Memory {
    fn with<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }
}

impl Spool for Memory {
    fn refused(&self) -> Option<String> {
        self.with(|k| k.full.then(|| "disk full".into()))
    }
    fn suppressed(&self, rcpt: &str, mail: &Mail<'_>) -> Option<Suppressed> {
        self.with(|k| k.list.check(rcpt, mail, Time::from_secs(1_714_550_400)))
    }
    fn listed(&self, lists: &[String], rcpt: &str) -> Result<Option<Suppressed>, NotLoaded> {
        self.with(|k| {
            if let Some(list) = lists.iter().find(|list| k.not_loaded.contains(*list)) {
                return Err(NotLoaded { list: list.as_str().into() });
            }
            k.address_lists.find(lists, rcpt)
        })
    }
    fn next_message_id(&self) -> MessageId {
        self.with(|k| {
            k.last_id += 1;
            MessageId(k.last_id)
        })
    }
    async fn accept(
        &self,
        message: Arc<Message>,
        events: Events,
        ended: &[u16],
        report: Option<(Arc<Message>, Events)>,
    ) -> Result<(), StoreError> {
        assert!(report.is_none(), "nobody lends this intake the making of reports");
        self.with(|k| {
            if k.broken {
                return Err(StoreError::Failed("no space left on device".into()));
            }
            let e = &message.envelope;
            let rcpts: Vec<_> = e.rcpts.iter().map(|r| &*r.address).collect();
            k.story.push_back(format!("MAIL {} -> {} ({:?})", e.orig, rcpts.join(" "), e.route));
            let mut left: Vec<u16> = ended.to_vec();
            for e in batch(&events).iter().map(Result::unwrap).filter(|e| e.kind == Kind::Bounced) {
                assert_eq!((e.category, e.action), ("suppressed", Some(DsnAction::Failed)));
                assert_eq!(e.status.unwrap().to_string(), "5.7.1");
                assert_eq!(left.remove(0), e.rcpt_index);
                k.story.push_back(format!("ENDED {}: {}", e.rcpt, e.diag));
                k.ended.push((e.message, e.rcpt_index, e.diag.into(), e.suppressed_by, e.queue.into()));
            }
            assert!(left.is_empty(), "each recipient that ends has its event");
            k.messages.push((message, events));
            Ok(())
        })
    }
    fn admit(&self, envelope: &Envelope, states: &[RcptState], _now: Time) {
        self.with(|k| k.admitted.push((envelope.id, states.iter().map(|s| s.index).collect())));
    }
}

fn batch(events: &Events) -> EventBatch<'_> {
    let (count, bytes) = (events.len() as u32, events.as_bytes());
    EventBatch { store: StoreId(1), first_seq: 1, rules: RuleSetId(0), count, bytes }
}

fn config(lines: &str) -> Config {
    let text = format!("host-name mx.example.com\nspool /var/spool/carom\nlog-file /var/log/carom.log\n{lines}\n");
    let loaded = carom::config::parse_str("test.conf", &text);
    loaded.config.unwrap_or_else(|| panic!("{text}\n{:#?}", loaded.diagnostics))
}

fn intake(lines: &str) -> (Intake<Memory>, Memory) {
    let memory = Memory::default();
    let config = config(lines);
    memory.with(|k| k.address_lists.use_config(&config));
    (Intake::with_spool(memory.clone(), Arc::new(ArcSwap::from_pointee(config))), memory)
}

fn peer(ip: &str) -> Peer {
    let local_ip: IpAddr = "192.0.2.10".parse().unwrap();
    Peer { ip: ip.parse().unwrap(), local_ip, listener_source: None }
}

/// The machine with everything behind it but a socket.
struct Talk {
    intake: Intake<Memory>,
    session: Session<SmtpPolicy<Memory>>,
    runtime: tokio::runtime::Runtime,
    kept: Vec<u8>,
    closed: bool,
    wants_tls: bool,
    said: Vec<u8>,
}

impl Talk {
    fn begin(intake: Intake<Memory>) -> Talk {
        let policy = SmtpPolicy::new(intake.clone(), peer("192.0.2.5"));
        let session = match policy.turned_away() {
            None => Session::new(policy, "mx.example.com", false),
            Some(answer) => Session::refused(policy, "mx.example.com", &answer),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (kept, said) = (Vec::new(), Vec::new());
        let mut talk = Talk { intake, session, runtime, kept, closed: false, wants_tls: false, said };
        talk.hear(b"");
        talk
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.closed || self.wants_tls {
            return;
        }
        self.kept.extend_from_slice(bytes);
        loop {
            let (used, action) = self.session.advance(&self.kept);
            self.kept.drain(..used);
            match action {
                Action::Accept(received) => {
                    let hello = self.session.hello().cloned();
                    let now = Time::from_secs(1_714_550_400);
                    let secure = self.session.is_secure();
                    let submission = self.session.policy().submission(received, hello.as_ref(), secure, now);
                    let answer = match self.runtime.block_on(self.intake.submit(submission)) {
                        Ok(taken) => taken.answer(),
                        Err(error) => error.answer(),
                    };
                    self.session.accepted(&answer);
                    continue;
                }
                Action::StartTls => {
                    self.wants_tls = true;
                    self.kept.clear();
                }
                Action::Close => self.closed = true,
                Action::Read => {}
            }
            break;
        }
        let mut out = Vec::new();
        self.session.take_output(&mut out);
        self.said.extend_from_slice(&out);
    }

    fn lines(&mut self) -> VecDeque<String> {
        let said = String::from_utf8(std::mem::take(&mut self.said)).unwrap();
        assert!(said.is_empty() || said.ends_with("\r\n"), "{said:?}");
        said.split_terminator("\r\n").map(str::to_owned).collect()
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0").replace("\\\\", "\\");
    text.into_bytes()
}

fn play(story: &str, piece: usize) {
    let (setting, dialogue) = story.split_once("---\n").unwrap();
    let settings: Vec<_> = setting.lines().filter_map(|l| l.strip_prefix("config ")).collect();
    let (intake, memory) = intake(&settings.join("\n"));
    for line in setting.lines() {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        if let [how @ ("suppress" | "hold"), subject, scope @ ..] = words.as_slice() {
            let (rule, scope) = match scope.first().and_then(|s| s.rsplit_once(" by ")) {
                Some((scope, rule)) => (rule, scope.parse().unwrap()),
                None => ("hard", scope.first().map_or(Scope::global(), |s| s.parse().unwrap())),
            };
            let state = if *how == "hold" { State::Held } else { State::Active };
            let by = EventId { store: StoreId(1), seq: 42 };
            let entry = Entry { rule: rule.into(), by, state, scope, ..Entry::default() };
            memory.with(|k| {
                let key = k.list.hasher().subject(subject).in_scope(&entry.scope);
                k.list.apply(&key, &entry);
            });
        } else if let Some(list) = line.strip_prefix("unread ") {
            memory.with(|k| k.not_loaded.insert(list.into()));
        } else if line == "full" {
            memory.with(|k| k.full = true);
        }
    }
    let mut talk = Talk::begin(intake);
    let mut said = talk.lines();
    let mut pending = Vec::new();
    for (n, step) in dialogue.lines().enumerate().chain([(usize::MAX, "END")]) {
        let heard = match step.split_once([' ', ':']) {
            _ if step.starts_with("C:") => {
                let line = step.strip_prefix("C: ").unwrap_or("");
                Some([line.as_bytes(), b"\r\n"].concat())
            }
            _ if step.starts_with("C> ") => Some(unescape(&step[3..])),
            Some(("BIG", n)) => Some([b"x".repeat(n.parse().unwrap()), b"\r\n.\r\n".to_vec()].concat()),
            _ => None,
        };
        if let Some(heard) = heard {
            pending.extend(heard);
            continue;
        }
        if !pending.is_empty() {
            assert_eq!(said, VecDeque::new(), "said before line {n} and not told");
            for piece in pending.chunks(piece) {
                talk.hear(piece);
            }
            pending.clear();
            said = talk.lines();
        }
        let place = format!("line {n} of the dialogue: {step}\n(to come: {said:#?})");
        if let Some(expected) = step.strip_prefix("S: ") {
            let line = said.pop_front().unwrap_or_else(|| panic!("nothing said; {place}"));
            match expected.strip_suffix('*') {
                Some(start) => assert!(line.starts_with(start), "{line:?}; {place}"),
                None => assert_eq!(line, expected, "{place}"),
            }
        } else if step == "TLS" {
            assert!(std::mem::take(&mut talk.wants_tls), "{place}");
            talk.session.secured();
        } else if step == "CLOSED" {
            assert!(talk.closed && said.is_empty(), "{place}");
        } else if step == "END" {
            assert_eq!(said, VecDeque::new(), "said at the end and not told");
            assert_eq!(memory.with(|k| k.story.pop_front()), None, "happened and not told");
        } else {
            assert_eq!(memory.with(|k| k.story.pop_front()).as_deref(), Some(step), "{place}");
        }
    }
}

#[test]
fn the_dialogues_go_as_they_are_written_however_the_bytes_arrive() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "txt"));
    files.sort();
    assert!(files.len() >= 14);
    for file in files {
        let story = std::fs::read_to_string(&file).unwrap();
        for piece in [usize::MAX, 1, 7] {
            println!("{} in pieces of {piece}", file.display());
            play(&story, piece);
        }
    }
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"EHLO x\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"RCPT TO:<c@ours.example>\r\n",
        b"RCPT TO:<c@d.example>\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"\n.\r\n",
        b"Subject: x\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b".",
        b"RSET\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH PLAIN AGFubgBzM2NyZXQ=\r\n",
        b"YW5u\r\n",
        b"*\r\n",
        b"NOOP\r\n",
        b"VRFY x\r\n",
        b"MAIL FROM:<",
        b">\r\n",
        b"\"",
        b"\\",
        b"QUIT\r\n",
    ];
    prop_oneof![
        9 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

fn outcome(bytes: &[u8], pieces: impl Iterator<Item = usize>) -> (String, bool, VecDeque<String>) {
    let lines = "relay-domain ours.example\n<smtp-user ann>\npassword s3cret\n</smtp-user>\n\
                 <source 0/0>\nallow-unencrypted-plain-auth yes\n</source>";
    let (intake, memory) = intake(lines);
    let mut talk = Talk::begin(intake);
    let mut rest = bytes;
    for piece in pieces {
        let (now, later) = rest.split_at(piece.clamp(1, rest.len().max(1)).min(rest.len()));
        talk.hear(now);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    talk.hear(rest);
    (String::from_utf8(talk.said).unwrap(), talk.closed, memory.with(|k| std::mem::take(&mut k.story)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_bytes_in_any_split_have_one_outcome_and_relay_nothing_unasked(
        words in proptest::collection::vec(word(), 0..40),
        pieces in proptest::collection::vec(1usize..30, 1..40),
    ) {
        let bytes = words.concat();
        let whole = outcome(&bytes, std::iter::once(bytes.len()));
        let split = outcome(&bytes, pieces.into_iter().chain(std::iter::repeat(3)));
        prop_assert_eq!(&whole, &split);
        // Every reply is bounded; there are no more of them than lines.
        prop_assert!(whole.0.len() <= 512 * (bytes.iter().filter(|b| **b == b'\n').count() * 8 + 4));
        if !whole.0.contains("235 ") {
            prop_assert!(whole.2.iter().all(|m| !m.contains("d.example")));
        }
    }
}

#[test]
fn recipients_are_bounded_even_where_the_configuration_does_not_bound_them() {
    let (intake, memory) = intake("relay-domain ours.example");
    let mut talk = Talk::begin(intake);
    talk.hear(b"HELO x\r\nMAIL FROM:<>\r\n");
    for n in 0..MAX_RECIPIENTS + 2 {
        talk.hear(format!("RCPT TO:<r{n}@ours.example>\r\n").as_bytes());
    }
    talk.hear(b"DATA\r\n.\r\n");
    let refused = talk.lines().iter().filter(|l| l.starts_with("452 4.5.3")).count();
    assert_eq!(refused, 2);
    memory.with(|k| assert_eq!(k.messages[0].1.len(), MAX_RECIPIENTS));
}

fn submission(config: Config, content: &str) -> Submission {
    let ip = "192.0.2.5".parse().unwrap();
    let source = config.source(ip, None, None);
    let rcpt = |address: &str| Accepted {
        address: address.into(),
        orcpt: "".into(),
        notify: 0,
        route: Route::Deliver,
        suppressed: None,
    };
    Submission {
        config: Arc::new(config),
        source,
        src_type: SourceType::Smtp,
        src_mta: "feeder.example".into(),
        src_ip: Some(ip),
        local_ip: Some("192.0.2.10".parse().unwrap()),
        user: "ann".into(),
        with: "ESMTPSA",
        from: "news@example.com".into(),
        ret: None,
        env_id: "".into(),
        rcpts: vec![rcpt("ann@example.net"), rcpt("Bob@Example.org")],
        content: Content { bytes: content.replace('\n', "\r\n").into_bytes(), eight_bit: false },
        now: Time::from_secs(1_714_550_400),
    }
}

const POOL: &str = "<virtual-mta v1>\n</virtual-mta>\n<virtual-mta v2>\n</virtual-mta>\n\
    <virtual-mta-pool p>\nvirtual-mta v1\nvirtual-mta v2\n</virtual-mta-pool>\n\
    <source 0/0>\nprocess-x-job yes\nprocess-x-envid yes\nprocess-x-virtual-mta yes\nadd-message-id-header yes\n</source>\n\
    <acct-file /tmp/a.csv>\nrecords d,b,r\nrecord-fields r *,header_Subject\n</acct-file>";

#[tokio::test]
async fn every_recipient_gets_an_r_event_with_all_that_accounting_asks_for() {
    let (intake, memory) = intake(POOL);
    let content = "X-Job: spring\nX-Envid: e1\nX-Virtual-MTA: P\nSubject: hello\n\nhi\n";
    let mut members = Vec::new();
    for _ in 0..3 {
        let mut s = submission(config(POOL), content);
        s.rcpts[1].suppressed = Some(Suppressed { by: 42, list: "manual".into(), held: false });
        let Taken { id, rcpts, suppressed } = intake.submit(s).await.unwrap();
        assert_eq!((rcpts, suppressed), (2, 1));
        let (message, received) = memory.with(|k| k.messages.last().cloned().unwrap());
        assert_eq!(message.envelope.id, id);
        members.push(message.envelope.vmta.to_string());
        let batch = batch(&received);
        let events: Vec<_> = batch.iter().map(Result::unwrap).collect();
        assert_eq!(events.iter().map(|e| e.kind.name()).collect::<Vec<_>>(), ["r", "r", "b"]);
        for (n, e) in events.iter().take(2).enumerate() {
            assert_eq!((e.kind.name(), usize::from(e.rcpt_index), e.message), ("r", n, id));
            assert_eq!(
                (e.orig, e.src_mta, e.user, e.job, e.env_id),
                ("news@example.com", "feeder.example", "ann", "spring", "e1")
            );
            assert_eq!(
                (e.src_ip.unwrap().to_string(), e.rcv_ip.unwrap().to_string()),
                ("192.0.2.5".into(), "192.0.2.10".into())
            );
            assert_eq!((e.vmta, e.pool), ("p", "p"));
            assert_eq!(e.headers.get("subject"), Some("hello"));
        }
        assert_eq!((events[0].rcpt, events[1].rcpt), ("ann@example.net", "Bob@Example.org"));
        let body = String::from_utf8(message.body.to_vec()).unwrap();
        assert!(
            body.starts_with("Received: from feeder.example ([192.0.2.5])\r\n\tby mx.example.com with ESMTPSA id ")
        );
        assert!(
            body.ends_with("\r\nSubject: hello\r\n\r\nhi\r\n") && !body.contains("X-Job") && !body.contains("for <")
        );
        assert!(body.contains(&format!("Message-ID: <{}>", message.envelope.message_id_header)));
        assert_eq!(message.envelope.body_len as usize, body.len());
    }
    assert_eq!(members, ["v1", "v2", "v1"]);
    // Only the recipient that is not suppressed is queued; the other has ended.
    memory.with(|k| {
        assert_eq!(k.admitted[0], (MessageId(1), vec![0]));
        let text = "smtp;550 5.7.1 recipient is in suppression list \"manual\": <Bob@Example.org>";
        assert_eq!(k.ended[0], (MessageId(1), 1, text.into(), 42, "example.org/v1".into()));
    });
}

#[tokio::test]
async fn a_store_that_fails_means_a_temporary_refusal_and_nothing_queued() {
    let (intake, memory) = intake("");
    memory.with(|k| k.broken = true);
    let error = intake.submit(submission(config(""), "\n")).await.unwrap_err();
    assert_eq!((error.answer().code, error.answer().status), (452, "4.3.1"));
    assert!(memory.with(|k| k.admitted.is_empty()));
}

/// A server on the loopback.
struct Server {
    address: std::net::SocketAddr,
    memory: Memory,
    intake: Intake<Memory>,
    config: Arc<ArcSwap<Config>>,
    identity: Identity,
    certificate: rustls::pki_types::CertificateDer<'static>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn server(lines: &str) -> Server {
    let pair = rcgen::generate_simple_self_signed(["mx.example.com".to_owned()]).unwrap();
    let pem = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(pem.path(), pair.cert.pem() + &pair.signing_key.serialize_pem()).unwrap();
    let mut config = config(lines);
    let listener = Listener { address: "127.0.0.1:0".parse().unwrap(), source: None, tls_certificate: None };
    config.listeners = vec![listener];
    config.smtp_server_tls_certificate = Some(pem.path().to_owned());
    let bound = bind(&config).unwrap();
    let address = bound[0].socket.local_addr().unwrap();
    let identity = bound[0].identity.clone();
    let memory = Memory::default();
    let config = Arc::new(ArcSwap::from_pointee(config));
    let intake = Intake::with_spool(memory.clone(), config.clone());
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve(bound, intake.clone(), stopped));
    Server { address, memory, intake, config, identity, certificate: pair.cert.der().clone(), stop, task }
}

/// A client that waits for what it expects, for five seconds at most.
struct Client<T>(BufReader<T>);

impl Client<TcpStream> {
    async fn connect(server: &Server) -> Client<TcpStream> {
        Client(BufReader::new(TcpStream::connect(server.address).await.unwrap()))
    }

    /// Does the handshake, trusting the server's certificate only.
    async fn secured(self, server: &Server) -> Client<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(server.certificate.clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("mx.example.com").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, self.0.into_inner()).await.unwrap();
        Client(BufReader::new(stream))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    /// The next reply's last line; empty when the server has closed.
    async fn reply(&mut self) -> String {
        let read = async {
            loop {
                let mut line = String::new();
                if self.0.read_line(&mut line).await.unwrap() == 0 || line.as_bytes().get(3) != Some(&b'-') {
                    return line.trim_end().to_owned();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), read).await.expect("no reply")
    }

    async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.reply().await
    }
}

#[tokio::test]
async fn a_message_comes_in_over_tls_from_a_user_that_authenticated_there() {
    let server = server("<smtp-user ann>\npassword s3cret\n</smtp-user>").await;
    let mut client = Client::connect(&server).await;
    assert!(client.reply().await.starts_with("220 mx.example.com"));
    assert!(client.ask("EHLO c.example").await.ends_with("STARTTLS"));
    // What is sent along in clear text is not heard.
    client.send("STARTTLS\r\n").await;
    assert!(client.reply().await.starts_with("220 2.0.0"));

    let mut client = client.secured(&server).await;
    assert!(client.ask("EHLO c.example").await.ends_with("AUTH PLAIN LOGIN"));
    assert!(client.ask("AUTH PLAIN AGFubgBzM2NyZXQ=").await.starts_with("235"));
    client.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n").await;
    for expected in ["250", "250", "354"] {
        assert!(client.reply().await.starts_with(expected));
    }
    assert_eq!(client.ask("Subject: x\r\n\r\nhi\r\n.").await, "250 2.6.0 message accepted, id 1");
    assert!(client.ask("QUIT").await.starts_with("221"));
    server.memory.with(|k| {
        let body = String::from_utf8(k.messages[0].0.body.to_vec()).unwrap();
        assert!(body.contains("with ESMTPSA id 1"), "{body}");
        assert_eq!(&*k.messages[0].0.envelope.user, "ann");
    });
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_session() {
    let mut server = server("").await;
    let pair = rcgen::generate_simple_self_signed(["mx.example.com".to_owned()]).unwrap();
    let pem = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(pem.path(), pair.cert.pem() + &pair.signing_key.serialize_pem()).unwrap();
    let mut renewed = config("");
    renewed.smtp_server_tls_certificate = Some("/no/such.pem".into());
    assert!(server.identity.renew(&renewed).unwrap_err().to_string().contains("/no/such.pem"));
    renewed.smtp_server_tls_certificate = Some(pem.path().to_owned());
    server.identity.renew(&renewed).unwrap();
    server.certificate = pair.cert.der().clone();
    let mut client = Client::connect(&server).await;
    client.reply().await;
    client.ask("EHLO c.example").await;
    client.ask("STARTTLS").await;
    // The client trusts nothing but the new one.
    let mut client = client.secured(&server).await;
    assert!(client.ask("EHLO c.example").await.starts_with("250 "));
}

#[tokio::test]
async fn clear_text_behind_starttls_is_not_heard_after_the_handshake() {
    let server = server("").await;
    let mut client = Client::connect(&server).await;
    client.reply().await;
    // Both lines in one segment: the second must neither be answered nor taken for a part of the handshake.
    client.send("EHLO c.example\r\nSTARTTLS\r\nEHLO injected.example\r\n").await;
    client.reply().await;
    assert!(client.reply().await.starts_with("220 2.0.0"));
    let mut client = client.secured(&server).await;
    assert!(client.ask("MAIL FROM:<a@example.com>").await.starts_with("503 5.5.1 send EHLO"));
}

#[tokio::test]
async fn a_client_that_dribbles_is_timed_out_in_commands_and_in_content() {
    let server =
        server("relay-domain ours.example\n<source 0/0>\nsmtp-command-timeout 1s\nsmtp-data-timeout 1s\n</source>")
            .await;
    for begin in ["", "HELO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@ours.example>\r\nDATA\r\n"] {
        let mut client = Client::connect(&server).await;
        client.send(begin).await;
        let begun = std::time::Instant::now();
        let (read, mut write) = client.0.into_inner().into_split();
        let dribble = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut lines = BufReader::new(read).lines();
        let mut last = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            last = line;
        }
        dribble.abort();
        assert_eq!(last, "421 4.4.2 timeout, closing connection");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn connections_above_the_limit_are_turned_away_and_a_stranger_can_not_take_all() {
    let server = server("total-max-smtp-in 8").await;
    let mut first = Client::connect(&server).await;
    let mut second = Client::connect(&server).await;
    assert!(first.reply().await.starts_with("220") && second.reply().await.starts_with("220"));
    let mut third = Client::connect(&server).await;
    assert!(third.reply().await.starts_with("421 4.7.0"));
    assert_eq!(third.reply().await, "");
    assert!(first.ask("QUIT").await.starts_with("221"));
    assert_eq!(first.reply().await, "");
    drop(first);
    // The slot comes back as soon as the session has ended.
    for _ in 0..100 {
        let mut again = Client::connect(&server).await;
        if again.reply().await.starts_with("220") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the slot did not come back");
}

#[tokio::test]
async fn a_stop_lets_a_transaction_finish_and_ends_what_is_idle() {
    let server = server("relay-domain ours.example").await;
    let mut idle = Client::connect(&server).await;
    let mut busy = Client::connect(&server).await;
    idle.reply().await;
    busy.reply().await;
    busy.ask("HELO x").await;
    busy.ask("MAIL FROM:<a@b.example>").await;
    server.stop.send(true).unwrap();
    assert!(idle.reply().await.starts_with("421 4.3.2"));
    assert_eq!(idle.reply().await, "");
    assert!(busy.ask("RCPT TO:<c@ours.example>").await.starts_with("250"));
    assert!(busy.ask("DATA").await.starts_with("354"));
    assert!(busy.ask("hi\r\n.").await.starts_with("250"));
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    tokio::time::timeout(Duration::from_secs(5), server.task).await.expect("serve ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn content_that_there_is_no_memory_for_is_refused_for_now_and_the_session_goes_on() {
    let server = server("relay-domain ours.example").await;
    // As if other sessions held all there is.
    let mut others = server.intake.held().part();
    others.set(MAX_HELD);
    let mut client = Client::connect(&server).await;
    client.reply().await;
    client.ask("HELO x").await;
    for expected in ["452 4.3.1", "250 2.6.0"] {
        for line in ["MAIL FROM:<a@b.example>", "RCPT TO:<c@ours.example>", "DATA"] {
            client.ask(line).await;
        }
        client.send(&"0123456789abcdef\r\n".repeat(10_000)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(client.ask(".").await.starts_with(expected));
        others.set(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postfix_s_smtp_source_can_feed_us() {
    let server = server("<source 127.0.0.1>\nalways-allow-relaying yes\n</source>").await;
    let arguments = ["-s", "8", "-l", "4096", "-m", "400", "-r", "3", "-f", "a@b.example", "-t", "c@d.example"];
    let run = std::process::Command::new("smtp-source").args(arguments).arg(server.address.to_string()).output();
    match run {
        Err(error) => println!("skipped: smtp-source can't be run ({error})"),
        Ok(run) => {
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            server.memory.with(|k| {
                assert_eq!(k.messages.len(), 400);
                assert!(k.messages.iter().all(|(m, r)| r.len() == 3 && m.body.len() > 4096));
            });
        }
    }
}

#[tokio::test]
async fn a_reload_applies_from_the_next_transaction_on() {
    let server = server("").await;
    let mut client = Client::connect(&server).await;
    client.reply().await;
    client.ask("HELO x").await;
    client.ask("MAIL FROM:<a@b.example>").await;
    assert!(client.ask("RCPT TO:<c@ours.example>").await.starts_with("550 5.7.1"));
    server.config.store(Arc::new(config("relay-domain ours.example")));
    assert!(client.ask("RCPT TO:<c@ours.example>").await.starts_with("550 5.7.1"));
    client.ask("RSET").await;
    client.ask("MAIL FROM:<a@b.example>").await;
    assert!(client.ask("RCPT TO:<c@ours.example>").await.starts_with("250"));
}
