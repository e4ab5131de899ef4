//! THE table of what can be asked over HTTP: method, path, what one must be allowed to, and the command that it is. Pure.
//!
//! Nothing changes by a GET. What changes something is JSON, which no web page of another site can send without being
//! asked back by the browser; a list that is brought in is not called `text/plain` for the same reason.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::suppression::{EntryFilter, MailFacts, PurgeFilter, SuppressionCommand};
use super::{Command, http_routes as routes};
use crate::config::{HttpAccess, values};
use crate::event::Time;
use crate::suppress::transfer;

/// Longest body of a request that is no list, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Longest list that is brought in at once, in bytes.
pub const MAX_LIST: usize = 32 << 20;
/// Entries of a page, when nothing is said.
const PAGE: u32 = 1000;

/// A request as far as it matters.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// The path, as it came.
    pub path: String,
    /// Names and values behind the `?`.
    pub query: Vec<(String, String)>,
    /// Media type of the body without parameters, in lower case.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// Who asks.
    pub who: String,
    /// Now.
    pub now: Time,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A command.
    Command(Command),
    /// The body is a list to be brought in.
    Import(ImportOptions),
    /// Entries as a file.
    Export(ExportOptions),
}

/// How a list is brought in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// See `carom suppress import --format`.
    pub format: String,
    /// The column with the addresses.
    pub column: Option<String>,
    /// For whose mail; empty is all.
    pub scope: String,
    /// When the entries end; [`Time::UNKNOWN`] is never.
    pub expires: Time,
    /// Why.
    pub reason: String,
    /// The lines are SHA-256 sums.
    pub hashed: bool,
    /// Enter also what is no permanent reason.
    pub temporary: bool,
    /// Only say what would be entered.
    pub dry_run: bool,
}

/// How entries go out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportOptions {
    /// Which.
    pub filter: EntryFilter,
    /// Behind this key.
    pub after: String,
    /// At most so many.
    pub limit: u32,
    /// `csv`, `newline`, `json`.
    pub format: String,
    /// As SHA-256 sums.
    pub hashed: bool,
}

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Status code of the answer.
    pub status: u16,
    /// In words.
    pub message: String,
}

impl Problem {
    /// With a status code and words.
    pub fn new(status: u16, message: impl Into<String>) -> Problem {
        Problem { status, message: message.into() }
    }
}

type Made = Result<Asked, Problem>;

/// A row of the table.
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; `{}` stands for one part.
    pub path: &'static str,
    /// What one must be allowed to.
    pub access: HttpAccess,
    /// What it does.
    pub doc: &'static str,
    /// Whether its body is a list.
    pub list: bool,
    make: fn(&Request, &str) -> Made,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

const fn route(
    (method, path): (&'static str, &'static str),
    access: HttpAccess,
    doc: &'static str,
    make: fn(&Request, &str) -> Made,
) -> Route {
    Route { method, path, access, doc, list: false, make }
}

/// All of them.
pub const ROUTES: &[Route] = &[
    route(("GET", "/api/v1/status"), HttpAccess::Monitor, "What carom status shows", |_, _| {
        Ok(Asked::Command(Command::Status))
    }),
    route(("GET", "/api/v1/suppressions"), HttpAccess::Monitor, "Entries, a page at a time", |r, _| {
        let (filter, after, limit) = listing(r, &[])?;
        asked(SuppressionCommand::List { filter, after, limit })
    }),
    route(("GET", "/api/v1/suppressions/stats"), HttpAccess::Monitor, "Counts, a piece at a time", |r, _| {
        let query = Query::of(r, &["after"])?;
        asked(SuppressionCommand::Stats { after: query.text("after") })
    }),
    route(("GET", "/api/v1/suppressions/history"), HttpAccess::Monitor, "What was done, a page at a time", |r, _| {
        let query = Query::of(r, &["subject", "since", "after", "limit"])?;
        asked(SuppressionCommand::History {
            subject: query.text("subject"),
            since: query.time("since")?.map_or(0, |t| t.0),
            after: query.text("after"),
            limit: query.number("limit")?.unwrap_or(PAGE),
        })
    }),
    route(
        ("GET", "/api/v1/suppressions/export"),
        HttpAccess::Monitor,
        "Entries as CSV, lines or JSON lines",
        |r, _| {
            let (filter, after, limit) = listing(r, &["format", "hashed"])?;
            let query = Query { pairs: &r.query, now: r.now };
            let format = Some(query.text("format")).filter(|f| !f.is_empty()).unwrap_or_else(|| "csv".to_owned());
            if !matches!(format.as_str(), "csv" | "newline" | "json") {
                return Err(Problem::new(400, "format is csv, newline or json"));
            }
            let hashed = match query.text("hashed").as_str() {
                "" => false,
                "sha256" => true,
                _ => return Err(Problem::new(400, "hashed is sha256")),
            };
            Ok(Asked::Export(ExportOptions { filter, after, limit, format, hashed }))
        },
    ),
    route(
        ("GET", "/api/v1/suppressions/{}"),
        HttpAccess::Monitor,
        "Everything about an address or @domain",
        |_, subject| asked(SuppressionCommand::Show { subject: subject.to_owned() }),
    ),
    route(
        ("POST", "/api/v1/suppressions/check"),
        HttpAccess::Monitor,
        "Are these suppressed for such mail?",
        |r, _| {
            let CheckBody { subjects, mail, hashed } = json(r)?;
            asked(SuppressionCommand::Check { subjects, mail, hashed })
        },
    ),
    route(("POST", "/api/v1/suppressions"), HttpAccess::Operator, "Suppress these", |r, _| {
        let body: AddBody = json(r)?;
        let expires = later(body.expires.as_deref(), r.now)?.0;
        let (subjects, scope, reason, who) = (body.subjects, body.scope, body.reason, r.who.clone());
        asked(SuppressionCommand::Add { subjects, scope, reason, expires, who })
    }),
    route(("POST", "/api/v1/suppressions/remove"), HttpAccess::Operator, "Mail may go to these again", |r, _| {
        let RemoveBody { subjects, scope, all_scopes, reason } = json(r)?;
        asked(SuppressionCommand::Remove { subjects, scope, all_scopes, reason, who: r.who.clone() })
    }),
    route(
        ("DELETE", "/api/v1/suppressions/{}"),
        HttpAccess::Operator,
        "Mail may go to this one again",
        |r, subject| {
            let DeleteBody { scope, all_scopes, reason } = json(r)?;
            let subjects = vec![subject.to_owned()];
            asked(SuppressionCommand::Remove { subjects, scope, all_scopes, reason, who: r.who.clone() })
        },
    ),
    Route {
        list: true,
        ..route(("POST", "/api/v1/suppressions/import"), HttpAccess::Operator, "Bring the list in the body in", import)
    },
    route(
        ("POST", "/api/v1/suppressions/purge"),
        HttpAccess::Admin,
        "Delete entries for good, a piece at a time",
        |r, _| {
            let body: PurgeBody = json(r)?;
            let which = PurgeFilter {
                removed_before: body.removed_before.as_deref().map(|t| time(t, r.now)).transpose()?.map(|t| t.0),
                expired: body.expired,
                source: body.source,
                batch: body.batch,
                rule: body.rule,
                scope: body.scope,
            };
            let (dry_run, reason, after) = (body.dry_run, body.reason, body.after);
            asked(SuppressionCommand::Purge { which, dry_run, reason, who: r.who.clone(), after })
        },
    ),
    route(
        ("POST", "/api/v1/forget"),
        HttpAccess::Admin,
        "Delete everything about a person but a hash, a piece at a time",
        |r, _| {
            let ForgetBody { address, after } = json(r)?;
            asked(SuppressionCommand::Forget { address, who: r.who.clone(), after })
        },
    ),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CheckBody {
    subjects: Vec<String>,
    #[serde(default)]
    mail: MailFacts,
    #[serde(default)]
    hashed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AddBody {
    subjects: Vec<String>,
    #[serde(default)]
    scope: String,
    reason: String,
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RemoveBody {
    subjects: Vec<String>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    all_scopes: bool,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DeleteBody {
    #[serde(default)]
    scope: String,
    #[serde(default)]
    all_scopes: bool,
    reason: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct PurgeBody {
    removed_before: Option<String>,
    expired: bool,
    source: Option<String>,
    batch: Option<u32>,
    rule: Option<String>,
    scope: Option<String>,
    dry_run: bool,
    reason: String,
    after: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForgetBody {
    address: String,
    #[serde(default)]
    after: String,
}

/// The row of a request, and the part of its path that is no word of ours.
pub fn find(method: &str, path: &str) -> Result<(&'static Route, String), Problem> {
    let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let given = parts(path);
    let fits = |route: &Route| {
        let wanted = parts(route.path);
        wanted.len() == given.len() && wanted.iter().zip(&given).all(|(w, g)| w == g || w == "{}" && !g.is_empty())
    };
    let there: Vec<&'static Route> = ROUTES.iter().filter(|r| fits(r)).collect();
    let Some(route) = there.iter().find(|r| r.method == method) else {
        return Err(match there.is_empty() {
            true => Problem::new(404, format!("there is no {}", shown(path))),
            false => Problem::new(405, format!("{} does not take {}", shown(path), shown(method))),
        });
    };
    let part = parts(route.path).iter().zip(&given).find(|(w, _)| *w == "{}").map(|(_, g)| decoded(g));
    Ok((route, part.transpose()?.unwrap_or_default()))
}

impl Route {
    /// What the request asks for; `part` is what [`find`] gave.
    pub fn read(&self, request: &Request, part: &str) -> Made {
        (self.make)(request, part)
    }

    /// How long a body may be.
    pub const fn most(&self) -> usize {
        if self.list { MAX_LIST } else { MAX_BODY }
    }
}

fn asked(command: SuppressionCommand) -> Made {
    Ok(Asked::Command(Command::Suppression(command)))
}

fn shown(text: &str) -> String {
    text.chars().take(100).filter(|c| !c.is_control()).collect()
}

fn json<T: DeserializeOwned>(request: &Request) -> Result<T, Problem> {
    if request.content_type != "application/json" {
        return Err(Problem::new(415, "send JSON, with Content-Type: application/json"));
    }
    serde_json::from_slice(&request.body).map_err(|e| Problem::new(400, format!("not understood: {e}")))
}

fn import(request: &Request, _: &str) -> Made {
    let types = ["text/csv", "application/json", "application/x-ndjson", "application/octet-stream"];
    if !types.contains(&request.content_type.as_str()) {
        return Err(Problem::new(
            415,
            format!("send the list with one of these as Content-Type: {}", types.join(", ")),
        ));
    }
    let names = ["format", "column", "scope", "expires", "reason", "hashed", "temporary", "dryRun"];
    let query = Query::of(request, &names)?;
    let flag = |name: &str| match query.text(name).as_str() {
        "" | "no" | "false" => Ok(false),
        "yes" | "true" => Ok(true),
        _ => Err(Problem::new(400, format!("{name} is yes or no"))),
    };
    let scope = query.text("scope");
    if !scope.is_empty() {
        scope.parse::<crate::event::Scope>().map_err(|e| Problem::new(400, e.to_string()))?;
    }
    Ok(Asked::Import(ImportOptions {
        format: Some(query.text("format")).filter(|f| !f.is_empty()).unwrap_or_else(|| "auto".to_owned()),
        column: Some(query.text("column")).filter(|c| !c.is_empty()),
        scope,
        expires: later(Some(&query.text("expires")).filter(|e| !e.is_empty()).map(String::as_str), request.now)?,
        reason: query.text("reason"),
        hashed: query.text("hashed") == "sha256" || flag("hashed")?,
        temporary: flag("temporary")?,
        dry_run: flag("dryRun")?,
    }))
}

fn listing(request: &Request, more: &[&str]) -> Result<(EntryFilter, String, u32), Problem> {
    let names =
        ["rule", "source", "state", "domain", "contains", "since", "provider", "scope", "batch", "after", "limit"];
    let query = Query::of(request, &names.iter().chain(more).copied().collect::<Vec<_>>())?;
    let some = |name: &str| Some(query.text(name)).filter(|v| !v.is_empty());
    let filter = EntryFilter {
        rule: some("rule"),
        source: some("source"),
        state: some("state"),
        domain: some("domain"),
        contains: some("contains"),
        since: query.time("since")?.map(|t| t.0),
        provider: some("provider"),
        scope: some("scope"),
        batch: query.number("batch")?,
    };
    Ok((filter, query.text("after"), query.number("limit")?.unwrap_or(PAGE)))
}

struct Query<'a> {
    pairs: &'a [(String, String)],
    now: Time,
}

impl<'a> Query<'a> {
    /// A name that nobody knows is an error: what was meant to narrow a request must not be passed over.
    fn of(request: &'a Request, names: &[&str]) -> Result<Query<'a>, Problem> {
        match request.query.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => {
                Err(Problem::new(400, format!("there is no parameter {}; there are {}", shown(name), names.join(", "))))
            }
            None => Ok(Query { pairs: &request.query, now: request.now }),
        }
    }

    fn text(&self, name: &str) -> String {
        self.pairs.iter().rfind(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Result<Option<u32>, Problem> {
        match self.text(name).as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Problem::new(400, format!("{name} is a number"))),
        }
    }

    fn time(&self, name: &str) -> Result<Option<Time>, Problem> {
        match self.text(name).as_str() {
            "" => Ok(None),
            text => routes::time(text, self.now).map(Some),
        }
    }
}

/// A time that is past: as it is, or counted back from now.
fn time(text: &str, now: Time) -> Result<Time, Problem> {
    let ago = text.ends_with(|c: char| c.is_ascii_lowercase()).then(|| values::time(text).ok()).flatten();
    let back = ago.map(|ago| Time(now.0.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX))));
    back.or_else(|| transfer::time(text)).ok_or_else(|| Problem::new(400, format!("{:?} is no time", shown(text))))
}

/// A time to come: as it is, or counted from now; not known when there is none.
fn later(text: Option<&str>, now: Time) -> Result<Time, Problem> {
    let Some(text) = text else { return Ok(Time::UNKNOWN) };
    let from_now = text.ends_with(|c: char| c.is_ascii_lowercase()).then(|| values::time(text).ok()).flatten();
    let end = from_now.map(|span| now + span).or_else(|| transfer::time(text)).filter(|end| *end > now);
    end.ok_or_else(|| Problem::new(400, format!("{:?} is no time to come", shown(text))))
}

/// `%40` as `@`.
fn decoded(part: &str) -> Result<String, Problem> {
    let wrong = || Problem::new(400, "the path is not well encoded");
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().ok_or_else(wrong)?, rest.next().ok_or_else(wrong)?];
        let decoded = data_encoding::HEXLOWER_PERMISSIVE.decode(&digits).map_err(|_| wrong())?;
        bytes.extend(decoded);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(method: &str, path: &str, query: &[(&str, &str)], body: &str) -> Request {
        Request {
            method: method.into(),
            path: path.into(),
            query: query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            content_type: "application/json".into(),
            body: body.into(),
            who: "ann".into(),
            now: Time::from_secs(1_800_000_000),
        }
    }

    fn read(request: &Request) -> Made {
        let (route, part) = find(&request.method, &request.path)?;
        route.read(request, &part)
    }

    fn command(method: &str, path: &str, query: &[(&str, &str)], body: &str) -> SuppressionCommand {
        match read(&request(method, path, query, body)) {
            Ok(Asked::Command(Command::Suppression(command))) => command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_path_is_the_command_it_says() {
        let subject = "/api/v1/suppressions/ann%40b.example";
        assert_eq!(command("GET", subject, &[], ""), SuppressionCommand::Show { subject: "ann@b.example".into() });
        let list = command("GET", "/api/v1/suppressions", &[("rule", "hard"), ("since", "1d"), ("limit", "5")], "");
        let SuppressionCommand::List { filter, limit: 5, .. } = list else { panic!("{list:?}") };
        assert_eq!((filter.rule.as_deref(), filter.since), (Some("hard"), Some(1_799_913_600_000_000)));
        let removal = command("DELETE", subject, &[], r#"{"reason":"asked","scope":"list weekly"}"#);
        let SuppressionCommand::Remove { subjects, scope, who, .. } = removal else { panic!("{removal:?}") };
        assert_eq!((subjects[0].as_str(), scope.as_str(), who.as_str()), ("ann@b.example", "list weekly", "ann"));
    }

    #[test]
    fn nothing_is_changed_by_a_get_and_deleting_for_good_is_for_admins() {
        for route in ROUTES {
            assert!(route.method != "GET" || route.access == HttpAccess::Monitor, "{route:?}");
            assert!(route.method == "GET" || route.path.ends_with("/check") || route.access >= HttpAccess::Operator);
            let for_good = route.path.ends_with("/purge") || route.path.ends_with("/forget");
            assert_eq!(route.access == HttpAccess::Admin, for_good, "{route:?}");
            assert!(route.doc.len() > 8 && route.path.starts_with("/api/v1/"));
        }
    }

    #[test]
    fn what_is_not_meant_is_said_and_not_guessed() {
        let status = |r: Request| read(&r).unwrap_err().status;
        assert_eq!(status(request("GET", "/", &[], "")), 404);
        assert_eq!(status(request("PUT", "/api/v1/suppressions", &[], "")), 405);
        assert_eq!(status(request("GET", "/api/v1/suppressions", &[("rul", "hard")], "")), 400);
        assert_eq!(status(request("POST", "/api/v1/suppressions", &[], "{}")), 400);
        assert_eq!(status(request("POST", "/api/v1/suppressions/purge", &[], r#"{"expird":true}"#)), 400);
        let form = Request { content_type: "text/plain".into(), ..request("POST", "/api/v1/forget", &[], "{}") };
        assert_eq!(status(form), 415, "what a web page elsewhere can send");
        let list =
            Request { content_type: "text/plain".into(), ..request("POST", "/api/v1/suppressions/import", &[], "") };
        assert_eq!(status(list), 415);
    }

    proptest! {
        #[test]
        fn no_request_makes_reading_panic(path in "(/api/v1/suppressions)?[/a-z%0-9@é]{0,30}", body in "\\PC{0,60}") {
            for method in ["GET", "POST", "DELETE"] {
                let _ = read(&request(method, &path, &[("since", &body), ("limit", &body)], &body));
            }
        }
    }
}
