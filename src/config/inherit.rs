//! Which settings hold where several blocks speak (directives.md, 1.7).
//!
//! Queues: wider patterns first, narrower ones over them, directive by directive: `*`, then for each parent of the
//! domain, nearest last, `[*.]parent` and `*.parent`, then `[*.]domain`, then the domain itself as a macro names it, then
//! as it is written out. Of a domain whose mail a report processor reads, the block of the processor's reserved queue
//! (`{bounce}`, `{feedbackLoop}`) comes right after `*`: its queue holds what the processor passes on. That, for the
//! global blocks, then over them those of the VirtualMTA's pool, then its own.
//! Submitters: address prefixes from wide to narrow, over them the listener's source, over that the user's.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::command::Command;
use super::directives::Setting;
use super::model::{Config, DomainPattern, QueueSettings, Source, Sources, User};
use super::values::{covers, in_prefix, literal};
use crate::event::address::canonical_domain;

/// The settings of one pattern in one scope.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Layer {
    /// From blocks that name the pattern by a macro.
    pub expanded: Vec<Setting<QueueSettings>>,
    /// From blocks that write it out: these win.
    pub explicit: Vec<Setting<QueueSettings>>,
}

/// The `<domain>` blocks of one scope.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Layers {
    any: Layer,
    exact: HashMap<String, Layer>,
    below: HashMap<String, Layer>,
    name_and_below: HashMap<String, Layer>,
    literals: BTreeMap<(u8, IpAddr), Layer>,
}

impl Layers {
    /// The layer of `pattern`, made when it is not there.
    pub fn layer(&mut self, pattern: &DomainPattern) -> &mut Layer {
        match pattern {
            DomainPattern::Any => &mut self.any,
            DomainPattern::Exact(d) => self.exact.entry(d.clone()).or_default(),
            DomainPattern::Subdomains(d) => self.below.entry(d.clone()).or_default(),
            DomainPattern::NameAndSubdomains(d) => self.name_and_below.entry(d.clone()).or_default(),
            DomainPattern::Literal(ip, length) => self.literals.entry((*length, *ip)).or_default(),
        }
    }

    /// Calls `f` with each setting that holds for `domain`, which the processors of these reserved queues read, in the
    /// order in which they are put over each other.
    fn each<'a>(&'a self, domain: &str, reserved: &[&str], mut f: impl FnMut(&'a Setting<QueueSettings>)) {
        let mut visit = |layer: Option<&'a Layer>| {
            for setting in layer.iter().flat_map(|l| l.expanded.iter().chain(&l.explicit)) {
                f(setting);
            }
        };
        visit(Some(&self.any));
        reserved.iter().for_each(|name| visit(self.exact.get(&*canonical_domain(name))));
        if let Some(ip) = literal(domain) {
            for ((length, prefix), layer) in &self.literals {
                if in_prefix(ip, *prefix, *length) {
                    visit(Some(layer));
                }
            }
        }
        if !self.below.is_empty() || !self.name_and_below.is_empty() {
            // Each position behind a dot begins a parent; the last one is the widest.
            for (dot, _) in domain.rmatch_indices('.') {
                let parent = &domain[dot + 1..];
                visit(self.name_and_below.get(parent));
                visit(self.below.get(parent));
            }
            visit(self.name_and_below.get(domain));
        }
        visit(self.exact.get(domain));
    }

    /// Each pattern's settings, with a domain that it holds for.
    fn patterns(&self) -> impl Iterator<Item = (String, &Layer)> {
        let any = std::iter::once(("*".to_owned(), &self.any));
        let exact = self.exact.iter().chain(&self.name_and_below).map(|(d, layer)| (d.clone(), layer));
        let below = self.below.iter().map(|(d, layer)| (format!("x.{d}"), layer));
        let literals = self.literals.iter().map(|((_, ip), layer)| {
            let literal = if ip.is_ipv6() { format!("[IPv6:{ip}]") } else { format!("[{ip}]") };
            (literal, layer)
        });
        any.chain(exact).chain(below).chain(literals)
    }

    /// All settings, for comparing.
    fn len(&self) -> usize {
        let maps = [&self.exact, &self.below, &self.name_and_below];
        maps.iter().map(|m| m.len()).sum::<usize>() + self.literals.len() + usize::from(self.any != Layer::default())
    }
}

/// All `<domain>` blocks, arranged for look-up by domain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Domains {
    pub(super) global: Layers,
    pub(super) by_virtual_mta: BTreeMap<String, Layers>,
    pub(super) by_pool: BTreeMap<String, Layers>,
    /// Lower-cased VirtualMTA to the pool whose blocks hold for it.
    pub(super) pool_of: BTreeMap<String, String>,
    /// The domains whose mail the report processors read, all of it, to the reserved queues of these.
    pub(super) reserved: BTreeMap<String, Vec<&'static str>>,
}

/// The settings of one pattern in one scope, with a queue that they hold for.
pub(super) struct Spoken<'a> {
    pub domain: String,
    pub vmta: &'a str,
    layer: &'a Layer,
}

impl<'a> Spoken<'a> {
    /// Those of this directive, the one that holds last.
    pub fn of(&self, name: &str) -> impl Iterator<Item = &'a Setting<QueueSettings>> {
        self.layer.expanded.iter().chain(&self.layer.explicit).filter(move |s| s.name == name)
    }
}

impl Domains {
    /// How many patterns have settings.
    pub fn len(&self) -> usize {
        let all = std::iter::once(&self.global).chain(self.by_virtual_mta.values()).chain(self.by_pool.values());
        all.map(Layers::len).sum()
    }

    /// Whether there is no `<domain>` block with settings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` with each setting that holds for queue `domain/vmta`, those that win last.
    pub(super) fn each<'a>(&'a self, domain: &str, vmta: &str, mut f: impl FnMut(&'a Setting<QueueSettings>)) {
        let domain = canonical_domain(domain);
        let vmta = vmta.to_lowercase();
        let reserved = self.reserved.get(&*domain).map_or(&[][..], Vec::as_slice);
        self.global.each(&domain, reserved, &mut f);
        if let Some(layers) = self.pool_of.get(&vmta).and_then(|pool| self.by_pool.get(pool)) {
            layers.each(&domain, reserved, &mut f);
        }
        if let Some(layers) = self.by_virtual_mta.get(&vmta) {
            layers.each(&domain, reserved, &mut f);
        }
    }

    /// What every pattern of every scope says; a pool without members says nothing.
    pub(super) fn spoken(&self) -> Vec<Spoken<'_>> {
        let of_pool = |pool: &str| self.pool_of.iter().find(|(_, p)| *p == pool).map(|(vmta, _)| vmta.as_str());
        let global = std::iter::once(("{default}", &self.global));
        let pools = self.by_pool.iter().filter_map(|(pool, layers)| Some((of_pool(pool)?, layers)));
        let virtual_mtas = self.by_virtual_mta.iter().map(|(vmta, layers)| (vmta.as_str(), layers));
        let scopes = global.chain(pools).chain(virtual_mtas);
        let patterns = scopes.flat_map(|(vmta, layers)| layers.patterns().map(move |(d, layer)| (d, vmta, layer)));
        patterns.map(|(domain, vmta, layer)| Spoken { domain, vmta, layer }).collect()
    }

    /// The settings of queue `domain/vmta`.
    pub(super) fn settings(&self, domain: &str, vmta: &str) -> QueueSettings {
        let mut settings = QueueSettings::default();
        self.each(domain, vmta, |s| s.apply(&mut settings));
        settings
    }
}

/// The settings of a source on their own, to be put over others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Overlay {
    pub name: String,
    pub settings: Vec<Setting<Source>>,
}

impl Overlay {
    /// Puts the settings over `source`, which takes the overlay's name.
    pub fn apply(&self, source: &mut Source) {
        source.name.clone_from(&self.name);
        for setting in &self.settings {
            setting.apply(source);
        }
    }
}

impl Sources {
    /// Arranges `<source>` blocks: those with a prefix, and those with a name.
    pub(super) fn arrange(mut prefixes: Vec<(IpAddr, u8, Overlay)>, names: BTreeMap<String, Overlay>) -> Sources {
        prefixes.sort_by_key(|(ip, length, _)| (*length, *ip));
        let mut by_prefix = Vec::with_capacity(prefixes.len());
        for (ip, length, _) in &prefixes {
            let mut merged = Source::default();
            for (wider, wider_length, overlay) in &prefixes {
                if wider_length <= length && covers(*wider, *wider_length, *ip) {
                    overlay.apply(&mut merged);
                }
            }
            by_prefix.push((*ip, *length, Arc::new(merged)));
        }
        by_prefix.reverse();
        let by_name = names
            .iter()
            .map(|(name, overlay)| {
                let mut merged = Source::default();
                overlay.apply(&mut merged);
                (name.clone(), Arc::new(merged))
            })
            .collect();
        Sources { by_prefix, by_name, overlays: names }
    }

    fn put_over(&self, source: Arc<Source>, name: &str) -> Arc<Source> {
        let name = name.to_lowercase();
        if let Some(overlay) = self.overlays.get(&name) {
            let mut merged = (*source).clone();
            overlay.apply(&mut merged);
            return Arc::new(merged);
        }
        self.by_name.get(&name).map_or(source, Arc::clone)
    }
}

impl Config {
    /// The settings of queue `domain/vmta`, merged from all blocks that apply (directives.md, 1.7). Not cached: asked
    /// once per queue and configuration, it costs a few look-ups by name and an allocation.
    pub fn queue_settings(&self, domain: &str, vmta: &str) -> Arc<QueueSettings> {
        Arc::new(self.domains.settings(domain, vmta))
    }

    /// Every `command` of a `<domain>`, each once, in no order that means anything.
    pub fn commands(&self) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        for spoken in self.domains.spoken() {
            for setting in spoken.of("command") {
                let mut said = QueueSettings::default();
                setting.apply(&mut said);
                commands.extend(said.command.filter(|command| !commands.contains(command)));
            }
        }
        commands
    }

    /// The settings for a submitter: by address, overlaid by the listener's source, then by the user's (`{auth}` when
    /// the user has none).
    pub fn source(&self, ip: IpAddr, listener_source: Option<&str>, user: Option<&User>) -> Arc<Source> {
        let base = self.sources.by_prefix.iter().find(|(prefix, length, _)| covers(*prefix, *length, ip));
        let mut source = base.map_or_else(Arc::default, |(_, _, s)| Arc::clone(s));
        if let Some(name) = listener_source {
            source = self.sources.put_over(source, name);
        }
        if let Some(user) = user {
            source = self.sources.put_over(source, user.source.as_deref().unwrap_or("{auth}"));
        }
        source
    }
}
