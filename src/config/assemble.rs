//! What was read block by block, put together to the whole: defaults, what is inherited by VirtualMTAs, what follows from
//! several blocks at once. The whole is checked here as well.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::auto_suppression::AutoSuppression;
use super::check::{self, Found};
use super::diagnose::Severity;
use super::directives::Setting;
use super::directives::global::Global;
use super::directives::virtual_mta::{PoolBlock, VirtualMtaBlock};
use super::lexer::Span;
use super::model::*;
use super::resolve::Draft;
use super::tree::Reading;
use super::values;
use crate::event::AddressKey;
use crate::event::address::canonical_domain;

/// Where the store is when nothing is said.
pub const DEFAULT_SPOOL: &str = "/var/spool/carom";

impl Draft {
    /// Puts everything together and has it checked as a whole.
    pub(super) fn finish(
        mut self,
        reading: &mut Reading<'_>,
        file: PathBuf,
        global: Global,
        lines: &[Setting<Global>],
    ) -> Config {
        let mut host_names = global.host_names.clone();
        if host_names.is_empty() {
            let system = reading.files.host_name().and_then(|n| values::host(&n).ok());
            host_names.push(system.unwrap_or_else(|| "localhost".to_owned()));
        }
        if let Some(line) = lines.iter().rfind(|s| s.name == "spool-max-recipients") {
            reading.warning(line.span, "spool-max-recipients is not supported yet: it is not in effect", "");
        }
        let (spool, min_free_space) = self.spool(reading, &global, lines);
        let mut listeners: Vec<(Listener, Span)> = global.listeners.clone();
        listeners.append(&mut self.listeners);
        guard_http(reading, &global.http, lines);
        let found = Found {
            listeners: &listeners,
            virtual_mtas: &self.virtual_mtas,
            pools: &self.pools,
            named: &self.named,
            prefixes: &self.prefixes,
            token: &self.token,
            unsubscribe_listeners: &self.unsubscribe_listeners,
            acct_files: &self.acct_files,
            references: &self.references,
            pattern_lists: &self.pattern_lists,
            list_references: &self.list_references,
            address_lists: &self.address_lists,
            address_list_references: &self.address_list_references,
            users: self.users.len(),
            global: &global,
        };
        check::check(reading, &found);
        self.reports.check(reading, &self.processors, self.token.as_ref().map(|(token, _)| token), &global);
        self.domains.pool_of = check::pool_of(reading, &self.pools, &self.domains);
        self.domains.reserved = reserved(&self.processors, self.token.as_ref().map(|(token, _)| token));
        check::transports(reading, &self.domains);
        let (virtual_mtas, pools) = self.virtual_mtas(&global, &host_names[0]);
        let mut patterns = self.patterns;
        patterns.extend(global.pattern_files.into_iter().map(PatternSource::File));
        let acct_files: Vec<AcctFile> = self.acct_files.into_iter().map(|(f, _)| f).collect();
        let sources = self.prefixes.values().chain(self.named.values());
        let unsubscribe_addresses = sources.filter_map(|(overlay, _)| {
            let mut source = Source::default();
            overlay.apply(&mut source);
            source.list_unsubscribe.mailto.as_deref().map(AddressKey::of)
        });
        let unsubscribe_addresses = unsubscribe_addresses.collect();
        let prefixes = self.prefixes.into_iter().map(|((length, ip), (overlay, _))| (ip, length, overlay)).collect();
        let named = self.named.into_iter().map(|(name, (overlay, _))| (name, overlay)).collect();
        let mut listeners: Vec<Listener> = listeners.into_iter().map(|(l, _)| l).collect();
        if listeners.is_empty() {
            let address = SocketAddr::from(([0, 0, 0, 0], 25));
            listeners.push(Listener { address, source: None, tls_certificate: None });
        }
        let auto_suppression = match self.auto_suppression {
            Some((block, span)) => block.finish(reading, span, &|name| patterns.iter().any(|p| p.may_give(name))),
            None => AutoSuppression::default(),
        };
        let [bounce, feedback] = self.processors;
        Config {
            file,
            host_names,
            postmaster: global.postmaster,
            custom_dsn_from_header: global.dsn_from,
            command_socket: global.command_socket.unwrap_or_else(|| spool.join("carom.sock")),
            spool,
            min_free_space,
            log_file: global.log_file,
            listeners,
            total_max_smtp_in: global.total_max_smtp_in,
            total_max_smtp_out: global.total_max_smtp_out,
            spool_max_recipients: global.spool_max_recipients,
            name_servers: global.name_servers,
            smtp_server_tls_certificate: global.tls_certificate,
            relay_domains: global.relay_domains,
            sources: Sources::arrange(prefixes, named),
            users: self.users,
            virtual_mtas,
            pools,
            domains: self.domains,
            kept_headers: kept_headers(&acct_files, bounce.is_some() || feedback.is_some()),
            acct_files,
            bounce_category_patterns: patterns,
            smtp_pattern_lists: self.pattern_lists.into_iter().map(|(key, (_, list, _))| (key, list)).collect(),
            retry_patterns: self.retry_patterns,
            address_lists: self.address_lists.into_iter().map(|(key, (list, _))| (key, list)).collect(),
            bounce_processor: bounce.map(|(p, _)| p),
            feedback_loop_processor: feedback.map(|(p, _)| p),
            return_path_token: self.token.map(|(t, _)| t),
            job_guards: self.job_guards,
            unsubscribe_listeners: self.unsubscribe_listeners.into_iter().map(|(l, _)| l).collect(),
            unsubscribe_addresses,
            ledger_retention_bytes: global.ledger_retention_bytes,
            ledger_retention: global.ledger_retention,
            send_index_retention: global.send_index_retention,
            send_index_max: global.send_index_max,
            report_quarantine_size: global.report_quarantine_size,
            alarm_to: global.alarm_to,
            alarm_command: global.alarm_command,
            novelty_alarm: global.novelty_alarm,
            auto_suppression,
            suppression_hashed: global.suppression_hashed,
            suppression_hash_key: global.suppression_hash_key,
            http: global.http,
        }
    }

    fn spool(&self, reading: &mut Reading<'_>, global: &Global, lines: &[Setting<Global>]) -> (PathBuf, u64) {
        let line = lines.iter().rfind(|s| s.name == "spool").map(|s| s.span);
        let mut all: Vec<(PathBuf, u64, Span)> =
            self.spools.iter().map(|(p, s, span)| (p.clone(), s.min_free_space, *span)).collect();
        if let (Some(path), Some(span)) = (&global.spool, line) {
            all.push((path.clone(), global.min_free_space, span));
        }
        let mut all = all.into_iter();
        let Some((path, min_free_space, _)) = all.next() else {
            let message = format!("no spool is given; {DEFAULT_SPOOL} is used");
            let help = Some("write <spool DIR> and </spool>".to_owned());
            let file = reading.texts.first().map(|t| t.name.clone()).unwrap_or_default();
            reading.diagnostics.about_file(Severity::Warning, file, message, help);
            return (reading.resolve(DEFAULT_SPOOL), global.min_free_space);
        };
        for (_, _, span) in all {
            reading.warning(span, "several spools are not supported yet; only the first is used", "take this one out");
        }
        (path, min_free_space.max(global.min_free_space))
    }

    /// VirtualMTAs with what they inherit: own value over the pool's over the global one.
    fn virtual_mtas(
        &self,
        global: &Global,
        host_name: &str,
    ) -> (BTreeMap<String, Arc<VirtualMta>>, BTreeMap<String, Vec<String>>) {
        let mut blocks: BTreeMap<String, (String, VirtualMtaBlock)> =
            self.virtual_mtas.iter().map(|(k, (name, b, _))| (k.clone(), (name.clone(), b.clone()))).collect();
        for name in global.virtual_mtas.iter().map(String::as_str).chain(["{default}"]) {
            blocks.entry(name.to_lowercase()).or_insert_with(|| (name.to_owned(), VirtualMtaBlock::default()));
        }
        let nothing = VirtualMtaBlock::default();
        let mut virtual_mtas = BTreeMap::new();
        for (key, (name, own)) in blocks {
            let member = |p: &&(String, PoolBlock, Span)| p.1.members.iter().any(|m| m.to_lowercase() == key);
            let pool = self.pools.values().find(member).map_or(&nothing, |p| &p.1.inherited);
            let hosts = if own.source_hosts.is_empty() { &global.source_hosts } else { &own.source_hosts };
            let announced = own.host_name.as_deref().unwrap_or(host_name);
            let hosts = hosts.iter().map(|(ip, n)| (*ip, n.clone().unwrap_or_else(|| announced.to_owned())));
            let virtual_mta = VirtualMta {
                smtp_source_hosts: hosts.collect(),
                max_smtp_out: own.max_smtp_out.or(pool.max_smtp_out).flatten(),
                max_smtp_msg_rate: own.max_smtp_msg_rate.or(pool.max_smtp_msg_rate).flatten(),
                host_name: own.host_name,
                name,
            };
            virtual_mtas.insert(key, Arc::new(virtual_mta));
        }
        let pools = self.pools.iter().map(|(k, (_, p, _))| {
            let members = p.members.iter().map(|m| m.to_lowercase()).filter(|m| virtual_mtas.contains_key(m));
            (k.clone(), members.collect())
        });
        let pools = pools.collect();
        (virtual_mtas, pools)
    }
}

/// Nobody gets in over the network without saying who they are, except to look.
fn guard_http(reading: &mut Reading<'_>, http: &HttpMgmt, lines: &[Setting<Global>]) {
    let first = |name: &str| lines.iter().find(|s| s.name == name).map(|s| s.span);
    let open = http.access.iter().position(|(ip, _, a)| !ip.is_loopback() && *a > HttpAccess::Monitor);
    if let Some(at) = open.filter(|_| http.port != 0 && !http.has_credentials()) {
        let line = lines.iter().filter(|s| s.name == "http-access").nth(at).map(|s| s.span).unwrap_or_default();
        let help =
            "add http-mgmt-password, http-mgmt-password-hash or http-api-key, or let other machines only monitor";
        reading.error(line, "http-access lets other machines change things without a password", help);
    }
    if let Some(line) = first("http-mgmt-port").filter(|_| http.port != 0 && http.access.is_empty()) {
        let help = "add http-access 127.0.0.1 admin, for one";
        reading.warning(line, "http-mgmt-port without http-access lets nobody in", help);
    }
}

/// The domains all of whose mail a report processor reads, and the reserved queues that it counts as (directives.md, 1.10).
fn reserved(
    processors: &[Option<(Processor, Span)>; 2],
    token: Option<&ReturnPathToken>,
) -> BTreeMap<String, Vec<&'static str>> {
    let mut reserved: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    for (processor, names) in processors.iter().zip([BOUNCE_QUEUES, FEEDBACK_QUEUES]) {
        let Some((processor, _)) = processor else { continue };
        for domain in processor.list.whole_domains() {
            let of_domain = reserved.entry(domain.to_owned()).or_default();
            // Of a domain in both lists the mail is the bounce processor's.
            if of_domain.is_empty() {
                of_domain.extend(names);
            }
        }
    }
    if let (Some(domain), Some(_)) = (token.and_then(|token| token.domain.as_deref()), &processors[0]) {
        let of_token = reserved.entry(canonical_domain(domain).into_owned()).or_default();
        if of_token.is_empty() {
            of_token.extend(BOUNCE_QUEUES);
        }
    }
    reserved
}

/// Headers that some acct-file writes, and the Message-ID where reports are tied to sends by it; lower-cased, each once.
fn kept_headers(acct_files: &[AcctFile], reports: bool) -> Vec<String> {
    let fields = acct_files.iter().flat_map(|f| f.record_fields.values().flatten());
    let mut headers: Vec<String> = fields
        .filter_map(|f| if let FieldChoice::Header(name) = f { Some(name.to_ascii_lowercase()) } else { None })
        .collect();
    let mapped = acct_files.iter().flat_map(|f| &f.map_header_to_field);
    headers.extend(mapped.map(|m| m.header.to_ascii_lowercase()));
    headers.extend(reports.then(|| "message-id".to_owned()));
    headers.sort_unstable();
    headers.dedup();
    headers
}
