//! The tree to a [`Config`]: each line is looked up in the table and its value read, each block becomes what it
//! describes, and what is spread over blocks is put together.
//!
//! A fault is reported and passed over, so that one reading finds all of them; whether there were any decides, in the
//! end, whether the result may be used.

mod outputs;
mod patterns;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::address_list::AddressList;
use super::diagnose::nearest;
use super::dialect;
use super::directives::address_list::{ADDRESS_LIST, AddressListBlock, SUPPRESSION_LIST};
use super::directives::auto_suppression::{AUTO_SUPPRESSION, AutoSuppressionBlock};
use super::directives::domain::DOMAIN;
use super::directives::global::{GLOBAL, Global, LISTENER, SPOOL, SpoolBlock};
use super::directives::job_guard::JOB_GUARD;
use super::directives::report::{PROCESSOR, TOKEN, TokenBlock};
use super::directives::source::{SOURCE, USER};
use super::directives::unsubscribe::UNSUBSCRIBE_LISTENER;
use super::directives::virtual_mta::{POOL, PoolBlock, VIRTUAL_MTA, VirtualMtaBlock};
use super::directives::{Directive, Reference, Scope, Setting, find};
use super::inherit::{Domains, Layers, Overlay};
use super::job_guard::JobGuard;
use super::lexer::{Line, Span};
use super::model::*;
use super::names::{expect_place, no_blocks, not_obeyed, note_repetition, sort_apart};
use super::reports::Places;
use super::tree::{Block, Node, Reading};
use super::unsubscribe::UnsubscribeListener;
use super::{push, values};
use crate::event::TokenKey;

/// Makes the configuration of file `file` from its tree. What is wrong is reported to `reading`.
pub fn resolve(reading: &mut Reading<'_>, file: PathBuf, nodes: &[Node]) -> Config {
    let mut draft = Draft::default();
    let (lines, blocks) = draft.top_level(reading, nodes);
    let mut global = Global::default();
    for setting in &lines {
        setting.apply(&mut global);
    }
    draft.references.append(&mut global.references);
    let mut macros = BTreeMap::new();
    for setting in lines.iter().filter(|s| s.name == "domain-macro") {
        let name = setting.text.split_whitespace().next().unwrap_or_default().to_lowercase();
        if let Some(first) = macros.insert(name, setting.span) {
            let help = format!("it is already given at {}", reading.place(first));
            reading.warning(setting.span, "this domain-macro is given twice; the later one holds", help);
        }
    }
    let acct_lines = lines.iter().filter(|s| s.name == "acct-file").map(|s| (s.text.clone(), s.span));
    for (path, span) in acct_lines.collect::<Vec<_>>() {
        draft.acct_file(reading, &path, span, &[]);
    }
    for hook in lines.iter().filter(|s| s.name == "bounce-hook") {
        if let Ok((file, _)) = push::hook(&hook.text) {
            reading.named_at(&file.path, hook.span);
            draft.acct_files.push((file, hook.span));
        }
    }
    for block in blocks {
        draft.block(reading, &global, block);
    }
    draft.finish(reading, file, global, &lines)
}

/// What has been read so far.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) spools: Vec<(PathBuf, SpoolBlock, Span)>,
    pub(super) listeners: Vec<(Listener, Span)>,
    pub(super) unsubscribe_listeners: Vec<(UnsubscribeListener, Span)>,
    pub(super) prefixes: BTreeMap<(u8, IpAddr), (Overlay, Span)>,
    pub(super) named: BTreeMap<String, (Overlay, Span)>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) virtual_mtas: BTreeMap<String, (String, VirtualMtaBlock, Span)>,
    pub(super) pools: BTreeMap<String, (String, PoolBlock, Span)>,
    pub(super) domains: Domains,
    pub(super) acct_files: Vec<(AcctFile, Span)>,
    pub(super) patterns: Vec<PatternSource>,
    pub(super) processors: [Option<(Processor, Span)>; 2],
    pub(super) token: Option<(ReturnPathToken, Span)>,
    pub(super) job_guards: Vec<JobGuard>,
    pub(super) references: Vec<Reference>,
    /// `<smtp-pattern-list>`s by lower-cased name: the name as written, the entries, the place.
    pub(super) pattern_lists: BTreeMap<String, (String, Vec<PatternSource>, Span)>,
    /// Their names where queues use them.
    pub(super) list_references: Vec<(String, Span)>,
    /// `<address-list>`s at the top level by lower-cased name, and their names where sources cite them.
    pub(super) address_lists: BTreeMap<String, (NamedAddressList, Span)>,
    pub(super) address_list_references: Vec<(String, Span)>,
    pub(super) retry_patterns: Vec<RetryPattern>,
    pub(super) auto_suppression: Option<(AutoSuppressionBlock, Span)>,
    /// Where each `<domain>` pattern was first written in each scope, for the warning about repetitions.
    pub(super) seen: BTreeMap<(String, String), Span>,
    /// What is said of inbound reports, for a look at the whole.
    pub(super) reports: Places,
}

impl Draft {
    /// Reads the directives of a block; the blocks in it come back.
    fn settings<'n, T>(
        &mut self,
        reading: &mut Reading<'_>,
        scope: Scope,
        table: &'static [Directive<T>],
        children: &'n [Node],
    ) -> (Vec<Setting<T>>, Vec<&'n Block>) {
        let (lines, blocks) = sort_apart(scope, children);
        let mut settings: Vec<Setting<T>> = Vec::new();
        for line in &lines {
            if let Some(setting) = self.setting(reading, table, line) {
                note_repetition(reading, table, &settings, &setting);
                settings.push(setting);
            } else if find(table, &line.keyword()).is_none() {
                not_obeyed(reading, scope, line);
            }
        }
        (settings, blocks)
    }

    /// Reads a line by a table; `None` when its name is not in it or its value can't be read.
    fn setting<T>(
        &mut self,
        reading: &mut Reading<'_>,
        table: &'static [Directive<T>],
        line: &Line,
    ) -> Option<Setting<T>> {
        let keyword = line.keyword();
        let row = find(table, &keyword)?;
        let name_span = line.span_of(0, line.text.find(char::is_whitespace).unwrap_or(line.text.len()));
        if row.name != keyword {
            reading.note(name_span, format!("{keyword} is another spelling"), format!("write {}", row.name));
        }
        let setting = row.read(name_span, &mut line.args(), reading)?;
        self.references.extend(setting.reference.clone());
        if setting.name == "smtp-pattern-list" {
            let names = values::list(setting.text.trim_matches('"')).map(|name| (name.to_owned(), setting.span));
            self.list_references.extend(names);
        }
        if setting.name == "suppression-lists" {
            let names = values::list(setting.text.trim_matches('"')).map(|name| (name.to_owned(), setting.span));
            self.address_list_references.extend(names);
        }
        Some(setting)
    }

    /// The directives at the top level; those of `<domain>` and `<source>` are taken for all domains and all sources.
    fn top_level<'n>(
        &mut self,
        reading: &mut Reading<'_>,
        nodes: &'n [Node],
    ) -> (Vec<Setting<Global>>, Vec<&'n Block>) {
        let (lines, blocks) = sort_apart(Scope::Global, nodes);
        let mut settings: Vec<Setting<Global>> = Vec::new();
        for line in &lines {
            let keyword = line.keyword();
            let (for_domain, for_source) = (find(DOMAIN, &keyword).is_some(), find(SOURCE, &keyword).is_some());
            if find(GLOBAL, &keyword).is_some() {
                if let Some(setting) = self.setting(reading, GLOBAL, line) {
                    note_repetition(reading, GLOBAL, &settings, &setting);
                    settings.push(setting);
                }
            } else if for_domain && for_source {
                let help = "put it into <domain *> for mail going out, or into <source 0/0> for mail coming in";
                reading.error(line.span, format!("{keyword} at the top level could mean either direction"), help);
            } else if for_domain {
                let help = "put it into <domain *> ... </domain>";
                reading.warning(line.span, format!("{keyword} at the top level is taken for every domain"), help);
                if let Some(setting) = self.setting(reading, DOMAIN, line) {
                    self.domains.global.layer(&DomainPattern::Any).expanded.push(setting);
                }
            } else if for_source {
                let help = "put it into <source 0/0> ... </source>";
                reading.warning(line.span, format!("{keyword} at the top level is taken for every source"), help);
                if let Some(setting) = self.setting(reading, SOURCE, line) {
                    let any = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
                    let overlay = Overlay { name: "0/0".to_owned(), settings: Vec::new() };
                    let entry = self.prefixes.entry((0, any)).or_insert((overlay, line.span));
                    entry.0.settings.push(setting);
                }
            } else {
                not_obeyed(reading, Scope::Global, line);
            }
        }
        (settings, blocks)
    }

    fn block(&mut self, reading: &mut Reading<'_>, global: &Global, block: &Block) {
        if !expect_place(reading, block, Scope::Global) {
            return;
        }
        let argument = block.argument.as_ref().and_then(|l| l.words().rest());
        let argument = argument.map(|w| w.text).unwrap_or_default();
        match block.tag.as_str() {
            "spool" => {
                let spool = self.simple(reading, Scope::Spool, SPOOL, block);
                self.spools.push((reading.resolve(&argument), spool, block.span));
            }
            "smtp-listener" => self.listener(reading, &argument, block),
            "source" => self.source(reading, &argument, block),
            "smtp-user" => self.user(reading, &argument, block),
            "virtual-mta" => self.virtual_mta(reading, global, &argument, block),
            "virtual-mta-pool" => self.pool(reading, global, &argument, block),
            "domain" => {
                let layers = std::mem::take(&mut self.domains.global);
                self.domains.global = self.domain(reading, global, "", layers, block);
            }
            "acct-file" => self.acct_file(reading, &argument, block.span, &block.children),
            "acct-webhook" => self.webhook(reading, &argument, block),
            "acct-nats" => self.nats(reading, &argument, block),
            "bounce-category-patterns" => self.patterns(reading, block),
            "address-list" => self.address_list(reading, &argument, block),
            "bounce-processor" => self.processor(reading, 0, block),
            "feedback-loop-processor" => self.processor(reading, 1, block),
            "return-path-token" => self.token(reading, block),
            "job-guard" => {
                let guard = self.simple(reading, Scope::JobGuard, JOB_GUARD, block);
                self.job_guards.push(JobGuard { pattern: argument, ..guard });
            }
            "unsubscribe-listener" => self.unsubscribe_listener(reading, &argument, block),
            "auto-suppression" => {
                let made = self.simple(reading, Scope::AutoSuppression, AUTO_SUPPRESSION, block);
                if self.auto_suppression.replace((made, block.span)).is_some() {
                    reading.warning(block.span, "<auto-suppression> is given again; the later one holds", "");
                }
            }
            "smtp-pattern-list" => self.smtp_pattern_list(reading, &argument, block),
            "smtp-pattern" => self.smtp_pattern(reading, &argument, block),
            _ => {}
        }
    }

    /// A block whose settings are put into a default one after the other, and that holds no blocks.
    fn simple<T: Default>(
        &mut self,
        reading: &mut Reading<'_>,
        scope: Scope,
        table: &'static [Directive<T>],
        block: &Block,
    ) -> T {
        let (settings, blocks) = self.settings(reading, scope, table, &block.children);
        no_blocks(reading, scope, &blocks);
        let mut target = T::default();
        for setting in &settings {
            setting.apply(&mut target);
        }
        target
    }

    fn listener(&mut self, reading: &mut Reading<'_>, argument: &str, block: &Block) {
        let (settings, blocks) = self.settings(reading, Scope::Listener, LISTENER, &block.children);
        no_blocks(reading, Scope::Listener, &blocks);
        match values::listen_address(argument) {
            Ok(address) => {
                let mut listener = Listener { address, source: None, tls_certificate: None };
                for setting in &settings {
                    setting.apply(&mut listener);
                }
                self.listeners.push((listener, block.span));
            }
            Err(e) => reading.error(block.span, format!("smtp-listener: {e}"), e.help),
        }
    }

    fn unsubscribe_listener(&mut self, reading: &mut Reading<'_>, argument: &str, block: &Block) {
        let scope = Scope::UnsubscribeListener;
        let (settings, blocks) = self.settings(reading, scope, UNSUBSCRIBE_LISTENER, &block.children);
        no_blocks(reading, scope, &blocks);
        let Ok(address) = argument.parse::<SocketAddr>() else {
            let help = "write <unsubscribe-listener ADDRESS:PORT>, such as 0.0.0.0:443 or [::1]:8080";
            return reading.error(block.span, format!("`{argument}` is not an address and a port"), help);
        };
        let mut listener = UnsubscribeListener::at(address);
        settings.iter().for_each(|s| s.apply(&mut listener));
        self.unsubscribe_listeners.push((listener, block.span));
    }

    fn source(&mut self, reading: &mut Reading<'_>, argument: &str, block: &Block) {
        let (settings, blocks) = self.settings(reading, Scope::Source, SOURCE, &block.children);
        no_blocks(reading, Scope::Source, &blocks);
        let overlay = Overlay { name: argument.to_owned(), settings: Vec::new() };
        let numeric = argument.starts_with(|c: char| c.is_ascii_digit() || c == '[') || argument.contains("::");
        let entry = match values::cidr(argument) {
            Ok((ip, length)) => self.prefixes.entry((length, ip)).or_insert((overlay, block.span)),
            Err(e) if numeric && argument.contains(['.', ':', '/']) => {
                reading.error(block.span, format!("source: {e}"), e.help);
                return;
            }
            Err(_) => self.named.entry(argument.to_lowercase()).or_insert((overlay, block.span)),
        };
        if entry.1 != block.span {
            let message = format!("<source {argument}> is given again; both are merged, the later value wins");
            let help = format!("the first one is at {}", reading.place(entry.1));
            reading.warning(block.span, message, help);
        }
        entry.0.settings.extend(settings);
    }

    fn user(&mut self, reading: &mut Reading<'_>, argument: &str, block: &Block) {
        let user = self.simple(reading, Scope::User, USER, block);
        if user.other_method {
            return;
        }
        let Some(password) = user.password.filter(|p| !p.is_empty()) else {
            let help = "write password P inside the block; a # begins a comment, also inside a password";
            reading.error(block.span, format!("<smtp-user {argument}> has no password"), help);
            return;
        };
        let user = User { name: argument.to_owned(), password, source: user.source };
        if self.users.insert(argument.to_lowercase(), user).is_some() {
            reading.warning(block.span, format!("<smtp-user {argument}> is given again; the later one holds"), "");
        }
    }

    fn virtual_mta(&mut self, reading: &mut Reading<'_>, global: &Global, argument: &str, block: &Block) {
        let (for_queues, children): (Vec<Node>, Vec<Node>) = block.children.iter().cloned().partition(|node| {
            matches!(node, Node::Line { line, several: false }
                if find(VIRTUAL_MTA, &line.keyword()).is_none() && find(DOMAIN, &line.keyword()).is_some())
        });
        let (settings, blocks) = self.settings(reading, Scope::VirtualMta, VIRTUAL_MTA, &children);
        let key = argument.to_lowercase();
        let new = (argument.to_owned(), VirtualMtaBlock::default(), block.span);
        let entry = self.virtual_mtas.entry(key.clone()).or_insert(new);
        if entry.2 != block.span {
            let message = format!("<virtual-mta {argument}> is given again; both are merged, the later value wins");
            let help = format!("the first one is at {}", reading.place(entry.2));
            reading.warning(block.span, message, help);
        }
        for setting in &settings {
            setting.apply(&mut entry.1);
        }
        let mut layers = self.domains.by_virtual_mta.remove(&key).unwrap_or_default();
        for node in &for_queues {
            let Node::Line { line, .. } = node else { continue };
            let message = format!("{} in a <virtual-mta> is taken for each of its queues", line.keyword());
            reading.warning(line.span, message, "put it into <domain *> inside the <virtual-mta>");
            if let Some(setting) = self.setting(reading, DOMAIN, line) {
                layers.layer(&DomainPattern::Any).expanded.push(setting);
            }
        }
        for inner in blocks {
            if expect_place(reading, inner, Scope::VirtualMta) {
                layers = self.domain(reading, global, &format!("virtual-mta {key}"), layers, inner);
            }
        }
        self.domains.by_virtual_mta.insert(key, layers);
    }

    fn pool(&mut self, reading: &mut Reading<'_>, global: &Global, argument: &str, block: &Block) {
        let (settings, blocks) = self.settings(reading, Scope::Pool, POOL, &block.children);
        let key = argument.to_lowercase();
        let new = (argument.to_owned(), PoolBlock::default(), block.span);
        let entry = self.pools.entry(key.clone()).or_insert(new);
        if entry.2 != block.span {
            let help = format!("the first one is at {}", reading.place(entry.2));
            reading.warning(block.span, format!("<virtual-mta-pool {argument}> is given again; both are merged"), help);
        }
        for setting in &settings {
            setting.apply(&mut entry.1);
        }
        let mut layers = self.domains.by_pool.remove(&key).unwrap_or_default();
        for inner in blocks {
            if expect_place(reading, inner, Scope::Pool) {
                layers = self.domain(reading, global, &format!("virtual-mta-pool {key}"), layers, inner);
            }
        }
        self.domains.by_pool.insert(key, layers);
    }

    /// Adds a `<domain>` block to the layers of its scope, which has this name.
    fn domain(
        &mut self,
        reading: &mut Reading<'_>,
        global: &Global,
        scope: &str,
        mut layers: Layers,
        block: &Block,
    ) -> Layers {
        let (settings, blocks) = self.settings(reading, Scope::Domain, DOMAIN, &block.children);
        no_blocks(reading, Scope::Domain, &blocks);
        let Some(argument) = &block.argument else { return layers };
        let mut words = argument.words();
        while let Some(word) = words.word() {
            let explicit = !word.text.contains('$');
            let names = match dialect::expand(&word.text, &global.macros) {
                Ok(names) => names,
                Err(e) => {
                    let names = global.macros.keys().map(String::as_str);
                    let near = match &e {
                        dialect::MacroError::Unknown(name) => nearest(name, names),
                        _ => None,
                    };
                    let help = near.map_or("write domain-macro NAME a.com,b.com at the top level".to_owned(), |n| {
                        format!("did you mean ${n}?")
                    });
                    reading.error(word.span, e.to_string(), help);
                    continue;
                }
            };
            for name in names {
                let pattern = match values::domain_pattern(&name) {
                    Ok(pattern) => pattern,
                    Err(e) => {
                        reading.error(word.span, format!("domain: {e}"), e.help);
                        break;
                    }
                };
                if explicit && pattern != DomainPattern::Any {
                    let first = self.seen.entry((scope.to_owned(), pattern.to_string())).or_insert(block.span);
                    if *first != block.span {
                        let message =
                            format!("<domain {pattern}> is given again; both are merged, the later value wins");
                        let help = format!("the first one is at {}", reading.place(*first));
                        reading.warning(block.span, message, help);
                    }
                }
                self.reports.domain(reading, &name, word.span, &settings);
                for setting in settings.iter().filter(|s| s.name == "bounce-pattern-file") {
                    self.domain_patterns(reading, scope, &pattern, setting);
                }
                let layer = layers.layer(&pattern);
                let list = if explicit { &mut layer.explicit } else { &mut layer.expanded };
                // Each list goes before those that are there: the last one applied is consulted first.
                let (lists, others): (Vec<_>, Vec<_>) = settings.iter().partition(|s| s.name == "smtp-pattern-list");
                list.extend(others.into_iter().chain(lists.into_iter().rev()).cloned());
            }
        }
        layers
    }

    /// One at the top level. Given again, both are one list.
    fn address_list(&mut self, reading: &mut Reading<'_>, name: &str, block: &Block) {
        let said = self.simple::<AddressListBlock>(reading, Scope::SuppressionList, SUPPRESSION_LIST, block);
        if name.is_empty() {
            reading.error(block.span, "<address-list>: argument missing", "write <address-list NAME>");
            return;
        }
        let new = NamedAddressList { name: name.to_owned(), list: AddressList::default(), files: Vec::new() };
        let (list, first) = self.address_lists.entry(name.to_lowercase()).or_insert((new, block.span));
        if *first != block.span {
            let help = format!("the first one is at {}", reading.place(*first));
            reading.warning(block.span, format!("<address-list {name}> is given again; both are merged"), help);
        }
        list.list.add_all(&said.list);
        list.files.extend(said.files);
    }

    fn processor(&mut self, reading: &mut Reading<'_>, which: usize, block: &Block) {
        let (settings, blocks) = self.settings(reading, Scope::Processor, PROCESSOR, &block.children);
        let mut processor =
            Processor { deliver_unmatched_email: true, quarantine_passed_on: true, ..Processor::default() };
        for setting in &settings {
            setting.apply(&mut processor);
        }
        note_repeated_blocks(reading, &blocks);
        for inner in blocks {
            if inner.tag == "email-patterns" && expect_place(reading, inner, Scope::Processor) {
                self.email_patterns(reading, which, inner, &mut processor);
            } else if inner.tag != "email-patterns" && expect_place(reading, inner, Scope::Processor) {
                let (list, blocks) = self.settings(reading, Scope::AddressList, ADDRESS_LIST, &inner.children);
                no_blocks(reading, Scope::AddressList, &blocks);
                note_repeated_entries(reading, &list);
                let mut named = AddressListBlock { list: std::mem::take(&mut processor.list), ..Default::default() };
                list.iter().for_each(|setting| setting.apply(&mut named));
                processor.list = named.list;
            }
        }
        if processor.list.is_empty() {
            let help = "write <address-list>, domain D and </address-list> inside";
            reading.warning(block.span, format!("<{}> names no address, so no mail comes to it", block.tag), help);
        }
        if self.processors[which].replace((processor, block.span)).is_some() {
            reading.warning(block.span, format!("<{}> is given again; the later one holds", block.tag), "");
        }
    }

    fn token(&mut self, reading: &mut Reading<'_>, block: &Block) {
        let token: TokenBlock = self.simple(reading, Scope::Token, TOKEN, block);
        let help = "write domain D and key ID SECRET inside the block";
        if token.keys.is_empty() {
            return reading.error(block.span, "<return-path-token> has no key", help);
        }
        for (i, TokenKey { id, .. }) in token.keys.iter().enumerate() {
            if token.keys[..i].iter().any(|other| other.id == *id) {
                reading.error(block.span, format!("two keys have the id {id}"), "give each key an id of its own");
            }
        }
        if token.encrypt_header && token.header.is_none() {
            reading.warning(block.span, "encrypt-header without a header has no effect", "write header NAME");
        }
        let TokenBlock { domain, keys, header, encrypt_header } = token;
        if self.token.replace((ReturnPathToken { domain, keys, header, encrypt_header }, block.span)).is_some() {
            reading.warning(block.span, "<return-path-token> is given again; the later one holds", "");
        }
    }
}

/// Blocks of one kind in a processor are read as one.
fn note_repeated_blocks(reading: &mut Reading<'_>, blocks: &[&Block]) {
    for (i, block) in blocks.iter().enumerate() {
        if let Some(first) = blocks[..i].iter().find(|first| first.tag == block.tag) {
            let help = format!("the first one is at {}", reading.place(first.span));
            reading.note(block.span, format!("<{}> is given again; both are merged", block.tag), help);
        }
    }
}

/// The same domain or address twice in one list.
fn note_repeated_entries<T>(reading: &mut Reading<'_>, list: &[Setting<T>]) {
    let mut seen = BTreeMap::new();
    for entry in list {
        if let Some(first) = seen.insert((entry.name, entry.text.to_lowercase()), entry.span) {
            let help = format!("the first one is at {}", reading.place(first));
            reading.note(entry.span, format!("{} {} is given again", entry.name, entry.text), help);
        }
    }
}

/// Whether the editor that broke a line at `first` and went on at `next` did so between two words: the blank is still
/// there, or the rest is indented as words at the begin of a line are. A line that was broken inside a word goes on in
/// the first column.
pub(super) fn was_broken_at_a_blank(reading: &Reading<'_>, first: &Line, next: &Line) -> bool {
    let raw = reading.texts.get(first.span.file as usize).and_then(|t| t.lines.get(first.span.line as usize - 1));
    raw.is_some_and(|r| r.ends_with(char::is_whitespace)) || next.span.column > 1
}

/// A category is a name; the seventeen of accounting.md or the operator's own.
pub(super) fn is_category(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
