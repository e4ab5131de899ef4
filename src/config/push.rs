//! Outputs that hand records on instead of keeping them: `<acct-webhook>`, `<acct-nats>` and `bounce-hook`. What they come
//! to; obeyed in accounting.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::acct::OnLag;
use super::directives::acct_file::with_defaults;
use super::model::{AcctFile, AcctFormat};
use super::values::ValueError;
use crate::event::{Kind, Kinds};

/// Text that is shown nowhere.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// To be kept to oneself.
    pub const fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// None was given.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

/// What the body of a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchFormat {
    /// A JSON array of records.
    #[default]
    Array,
    /// A JSON object a line.
    Lines,
    /// One record, a JSON object.
    Single,
}

/// How a webhook or a broker is reached, and how it is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// A webhook's URL; a broker's, several divided by commas.
    pub url: Secret,
    /// `name`: what its place in the ledger is kept under; empty is by the URL.
    pub name: String,
    /// `retry-interval`: the first wait after a failure, and the longest; each is twice the one before.
    pub retry: (Duration, Duration),
    /// `timeout`: of a request, or of the broker's acknowledgement.
    pub timeout: Duration,
    /// `tls-ca-file`: certificates trusted in the place of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// `batch-size`: records of one request at most.
    pub batch_size: u64,
    /// `batch-interval`: how long a record waits for others.
    pub batch_interval: Duration,
    /// `batch-format`.
    pub batch_format: BatchFormat,
    /// `secret`: keys that requests are signed with, all of them.
    pub secrets: Vec<Secret>,
    /// `header`: name and value.
    pub headers: Vec<(String, Secret)>,
    /// `gzip`: whether bodies are packed.
    pub gzip: bool,
    /// `stream`: JetStream's stream.
    pub stream: String,
    /// `create-stream`: whether it is made when it is not there.
    pub create_stream: bool,
    /// `replicas` of a stream that is made.
    pub replicas: u64,
    /// `duplicate-window` of a stream that is made.
    pub duplicate_window: Duration,
    /// `subject`, with `{type}` and the like.
    pub subject: String,
    /// `max-pending`: messages under way without an acknowledgement.
    pub max_pending: u64,
    /// `user`.
    pub user: String,
    /// `password`.
    pub password: Secret,
    /// `token`.
    pub token: Secret,
    /// `credentials`: a file with a JWT and its key.
    pub credentials: Option<PathBuf>,
}

impl Default for Push {
    fn default() -> Push {
        Push {
            url: Secret::default(),
            name: String::new(),
            retry: (Duration::from_secs(1), Duration::from_secs(300)),
            timeout: Duration::from_secs(30),
            tls_ca_file: None,
            batch_size: 500,
            batch_interval: Duration::from_secs(1),
            batch_format: BatchFormat::Array,
            secrets: Vec::new(),
            headers: Vec::new(),
            gzip: false,
            stream: "CAROM".to_owned(),
            create_stream: true,
            replicas: 1,
            duplicate_window: Duration::from_secs(600),
            subject: "carom.events.{type}".to_owned(),
            max_pending: 512,
            user: String::new(),
            password: Secret::default(),
            token: Secret::default(),
            credentials: None,
        }
    }
}

/// What may stand in braces in a `subject`.
pub const PLACEHOLDERS: &[&str] = &["type", "provider", "vmta", "job"];

fn wrong(message: impl Into<String>, help: &str) -> ValueError {
    ValueError { message: message.into(), help: help.into() }
}

fn output(name: String, url: &str, format: AcctFormat) -> AcctFile {
    let mut file = with_defaults(PathBuf::from(name), format);
    // Neither mail nor the disk is to wait for somebody else's machine.
    file.on_lag = OnLag::Skip;
    file.push.url = Secret::new(url.to_owned());
    file
}

/// `<acct-webhook URL>`; the second is a warning.
pub fn webhook(url: &str) -> Result<(AcctFile, Option<&'static str>), ValueError> {
    let help = "write <acct-webhook https://host/path>";
    let parsed = Url::parse(url).map_err(|e| wrong(format!("this is no URL: {e}"), help))?;
    let plain = match parsed.scheme() {
        "https" => false,
        "http" => true,
        other => return Err(wrong(format!("{other}: is neither https: nor http:"), help)),
    };
    let Some(host) = parsed.host_str().filter(|h| !h.is_empty()) else {
        return Err(wrong("the URL names no host", help));
    };
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let warning = (plain && !here)
        .then_some("http: to another machine: the records, and what is in its headers, can be read on the way");
    let file = output(shown(&parsed), url, AcctFormat::Webhook);
    Ok((file, warning))
}

/// `<acct-nats URL[,URL...]>`
pub fn nats(urls: &str) -> Result<AcctFile, ValueError> {
    let help = "write <acct-nats nats://host:4222>, or tls://host:4222; several servers of a cluster with commas";
    let mut names = Vec::new();
    for url in urls.split(',').map(str::trim) {
        let parsed = Url::parse(url).map_err(|e| wrong(format!("this is no URL: {e}"), help))?;
        if !matches!(parsed.scheme(), "nats" | "tls") {
            return Err(wrong(format!("{}: is neither nats: nor tls:", parsed.scheme()), help));
        }
        if parsed.host_str().is_none_or(str::is_empty) {
            return Err(wrong("the URL names no host", help));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(wrong("the URL holds a login", "write user and password, or token, on lines of their own"));
        }
        names.push(shown(&parsed));
    }
    let mut file = output(names.join(","), urls, AcctFormat::Nats);
    file.push.timeout = Duration::from_secs(10);
    file.push.retry.1 = Duration::from_secs(30);
    Ok(file)
}

/// `bounce-hook COMMAND` or `bounce-hook URL`
pub fn hook(text: &str) -> Result<(AcctFile, Option<&'static str>), ValueError> {
    let text = text.trim();
    let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).filter(|t| !t.contains('"'));
    let text = quoted.unwrap_or(text);
    let scheme = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let (mut file, warning) = if scheme.starts_with("http://") || scheme == "https://" {
        let (mut file, warning) = webhook(text)?;
        file.push.batch_format = BatchFormat::Single;
        file.push.batch_interval = Duration::ZERO;
        (file, warning)
    } else {
        let command = text.trim_start_matches('|').trim();
        if command.is_empty() {
            return Err(wrong("no program is named", "write bounce-hook /path/to/program, or a URL"));
        }
        let mut file = with_defaults(PathBuf::from(format!("|{command}")), AcctFormat::Hook);
        file.on_lag = OnLag::Skip;
        file.retry_interval = Duration::from_secs(10);
        (file, None)
    };
    file.path = PathBuf::from(format!("bounce-hook {}", file.path.display()));
    file.records = Kinds::of(&[Kind::Bounced, Kind::RemoteBounce]);
    Ok((file, warning))
}

/// A URL as it may be shown: without a login and without what it asks, where keys are put.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only where there can be no login.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    if url.query().is_some() {
        url.set_query(Some("..."));
    }
    url.to_string()
}

/// Puts `name` to use once all has been read.
pub fn named(file: &mut AcctFile) {
    if !file.push.name.is_empty() {
        let kind = if file.format == AcctFormat::Nats { "nats" } else { "webhook" };
        file.path = PathBuf::from(format!("{kind}:{}", file.push.name));
    }
}

/// A header's name and value as RFC 9110 has them (5.1, 5.5).
pub fn header(name: &str, value: &str) -> Result<(String, Secret), ValueError> {
    let help = "write header NAME VALUE, such as header X-Tenant 42";
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(wrong("what stands behind header is not the name of one", help));
    }
    let taken = ["content-type", "content-length", "content-encoding", "host", "carom-signature", "transfer-encoding"];
    if taken.iter().any(|t| name.eq_ignore_ascii_case(t)) {
        return Err(wrong(format!("{name} is set by Carom"), "take it out"));
    }
    if value.is_empty() || value.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err(wrong("the header has no value, or one with control characters", help));
    }
    Ok((name.to_owned(), Secret::new(value.to_owned())))
}

/// A `subject`: words between dots, or placeholders.
pub fn subject(text: &str) -> Result<String, ValueError> {
    let help = "write words with dots between, such as carom.events.{type}; {type}, {provider}, {vmta}, {job} stand for \
                what the record says";
    for word in text.split('.') {
        let inside = word.strip_prefix('{').and_then(|w| w.strip_suffix('}'));
        let ok = match inside {
            Some(name) => PLACEHOLDERS.contains(&name),
            None => !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !b"*>{}$".contains(&b)),
        };
        if !ok {
            return Err(wrong(format!("`{word}` can't be a word of a subject"), help));
        }
    }
    Ok(text.to_owned())
}

/// The name of a stream.
pub fn stream(text: &str) -> Result<String, ValueError> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b".*>/\\".contains(&b));
    if ok {
        Ok(text.to_owned())
    } else {
        Err(wrong(format!("`{text}` can't name a stream"), "write letters, digits, - and _"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_a_key() {
        let (file, warning) = webhook("https://me:pw@hooks.example.com/a/b?token=s3cret#x").unwrap();
        assert_eq!(file.path.to_str().unwrap(), "https://hooks.example.com/a/b?...");
        assert_eq!(warning, None);
        assert!(file.push.url.reveal().contains("s3cret"));
        assert!(!format!("{file:?}").contains("s3cret"));
    }

    #[test]
    fn http_is_silent_on_this_machine_and_warned_about_elsewhere() {
        for here in ["http://localhost:8080/", "http://127.0.0.1/x", "http://[::1]:9/"] {
            assert_eq!(webhook(here).unwrap().1, None, "{here}");
        }
        assert!(webhook("http://10.0.0.7/").unwrap().1.unwrap().contains("can be read on the way"));
        for wrong in ["ftp://a/", "hooks.example.com", "https://", "nats://a"] {
            assert!(webhook(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_broker_is_named_by_its_servers_and_holds_no_login() {
        let file = nats("nats://a.example:4222,tls://b.example").unwrap();
        assert_eq!(file.path.to_str().unwrap(), "nats://a.example:4222,tls://b.example");
        assert!(nats("nats://u:p@a.example").unwrap_err().message.contains("login"));
        assert!(nats("http://a.example").is_err() && nats("").is_err());
    }

    #[test]
    fn a_hook_is_a_program_or_a_url() {
        let (file, _) = hook("/usr/local/bin/bounced --fast").unwrap();
        assert_eq!(
            (file.format, file.path.to_str().unwrap()),
            (AcctFormat::Hook, "bounce-hook |/usr/local/bin/bounced --fast")
        );
        assert_eq!(file.records, Kinds::of(&[Kind::Bounced, Kind::RemoteBounce]));
        let (file, _) = hook("\"https://hooks.example.com/b\"").unwrap();
        assert_eq!((file.format, file.push.batch_format), (AcctFormat::Webhook, BatchFormat::Single));
        assert!(hook("").is_err() && hook("| ").is_err());
    }

    #[test]
    fn subjects_streams_and_headers_are_checked() {
        assert!(subject("carom.events.{type}.{provider}").is_ok());
        for wrong in ["", "a..b", "a.*", "a.>", "a.{rcpt}", "a b", "$JS.API"] {
            assert!(subject(wrong).is_err(), "{wrong}");
        }
        assert!(stream("MAIL_1").is_ok() && stream("a.b").is_err() && stream("").is_err());
        assert!(header("X-Key", "v w").is_ok());
        assert!(header("X Key", "v").is_err() && header("Host", "v").is_err() && header("X", "a\r\nb").is_err());
    }
}
