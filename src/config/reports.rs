//! What the blocks that deal with inbound reports seem to say and do not do: reserved queues, entries of both processors,
//! addresses that are refused before a processor could read them, tokens without a header.

use std::collections::BTreeSet;

use super::address_list::AddressList;
use super::diagnose::nearest;
use super::directives::Setting;
use super::directives::global::Global;
use super::lexer::Span;
use super::model::{Processor, QueueSettings, ReturnPathToken};
use super::tree::Reading;

/// The queues in braces that a `<domain>` may name (directives.md, 1.10), and the processor that each is of.
const QUEUES: [(&str, usize); 3] = [("{bounce}", 0), ("{bounceProcessor}", 0), ("{feedbackLoop}", 1)];
/// One that is known and not obeyed.
const NOT_YET: &str = "{sparkpost}";
/// The blocks of the processors.
const BLOCKS: [&str; 2] = ["bounce-processor", "feedback-loop-processor"];

/// Where what is looked at in the end was met.
#[derive(Default)]
pub(super) struct Places {
    /// Blocks of reserved queues: the queue's place in [`QUEUES`], and the directives in the block besides `log-messages`.
    queues: Vec<(usize, Vec<(&'static str, Span)>)>,
    /// `add-token-header yes`
    token_headers: Vec<Span>,
}

impl Places {
    /// Keeps in mind what a `<domain>` named `name` says.
    pub fn domain(&mut self, reading: &mut Reading<'_>, name: &str, span: Span, settings: &[Setting<QueueSettings>]) {
        settings.iter().for_each(|setting| self.setting(setting));
        if !name.starts_with('{') {
            return;
        }
        if let Some(at) = QUEUES.iter().position(|(queue, _)| queue.eq_ignore_ascii_case(name)) {
            let others = settings.iter().filter(|s| s.name != "log-messages").map(|s| (s.name, s.span)).collect();
            self.queues.push((at, others));
        } else if name.eq_ignore_ascii_case(NOT_YET) {
            reading.warning(span, format!("the queue {NOT_YET} is not supported yet: the block is not in effect"), "");
        } else {
            let names = QUEUES.map(|(queue, _)| queue);
            let help = match nearest(name, names) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the reserved queues are {}", names.join(", ")),
            };
            reading.error(span, format!("there is no reserved queue {name}"), help);
        }
    }

    /// Keeps in mind what a directive for queues says.
    pub fn setting(&mut self, setting: &Setting<QueueSettings>) {
        if setting.name == "add-token-header" {
            let mut queue = QueueSettings::default();
            setting.apply(&mut queue);
            if queue.add_token_header {
                self.token_headers.push(setting.span);
            }
        }
    }

    /// Reports what does nothing, now that everything has been read.
    pub fn check(
        &self,
        reading: &mut Reading<'_>,
        processors: &[Option<(Processor, Span)>; 2],
        token: Option<&ReturnPathToken>,
        global: &Global,
    ) {
        self.queues(reading, processors, token);
        if token.and_then(|t| t.header.as_ref()).is_none() {
            for span in &self.token_headers {
                let message = "add-token-header has no effect: no header is named that gets the token";
                reading.warning(*span, message, "write header X-Report-Token into <return-path-token>");
            }
        }
        if let [Some((bounce, _)), Some((feedback, span))] = processors {
            for entry in bounce.list.shared_with(&feedback.list) {
                let message = format!("{entry} is in both processors: <bounce-processor> gets its mail");
                reading.warning(*span, message, "take it out of one of them");
            }
        }
        for (processor, block) in processors.iter().zip(BLOCKS) {
            if let Some((processor, span)) = processor {
                refused_outside(reading, &processor.list, block, *span, global);
            }
        }
    }

    /// A reserved queue is that of the domains which its processor takes whole; the one of bounces also of the domain of
    /// signed return paths.
    fn queues(
        &self,
        reading: &mut Reading<'_>,
        processors: &[Option<(Processor, Span)>; 2],
        token: Option<&ReturnPathToken>,
    ) {
        for (at, others) in &self.queues {
            let (queue, processor) = QUEUES[*at];
            let (block, found) = (BLOCKS[processor], &processors[processor]);
            let Some(first) = others.first() else { continue };
            let of_token = processor == 0 && token.is_some_and(|t| t.domain.is_some());
            if found.as_ref().is_some_and(|(p, _)| of_token || p.list.takes_domains()) {
                continue;
            }
            let names: BTreeSet<&str> = others.iter().map(|(name, _)| *name).collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            let (message, help) = match found {
                None => (
                    format!("<domain {queue}> does nothing without <{block}>: {names}"),
                    format!("write <{block}> and its <address-list>"),
                ),
                Some(_) => (
                    format!(
                        "in <domain {queue}> only log-messages works, since <{block}> takes no whole domain: {names}"
                    ),
                    "write <domain DOMAIN>, with the domain of the addresses".to_owned(),
                ),
            };
            reading.warning(first.1, message, help);
        }
    }
}

/// What a processor would read and a client from outside may not send: entries that name no domain. To let them in
/// everywhere would relay for the world as soon as such a mail is no report and goes on.
fn refused_outside(reading: &mut Reading<'_>, list: &AddressList, block: &str, span: Span, global: &Global) {
    let ours: Vec<String> =
        global.host_names.iter().cloned().chain(global.relay_domains.iter().map(ToString::to_string)).collect();
    let ours = if ours.is_empty() { "host-name and relay-domain".to_owned() } else { ours.join(", ") };
    for pattern in list.patterns_of_any_domain() {
        let message = format!("<{block}>: /{pattern}/ names no domain: from outside it is taken only at {ours}");
        reading.warning(
            span,
            message,
            "end it in the domain, as in /^b-[0-9]+@example\\.com$/, or write relay-domain D",
        );
    }
    let locals = list.local_parts();
    if !locals.is_empty() {
        let shown = locals.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let message = format!("<{block}>: from outside, {shown} without a domain is taken only at {ours}");
        reading.note(span, message, "write address LOCAL@DOMAIN, or relay-domain D, for others");
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tree::tests::Memory;
    use crate::config::{self, Config, Diagnostic, Entries};
    use crate::event::Address;

    const BOUNCE: &str = "<bounce-processor>\n<address-list>\nLINE\n</address-list>\n</bounce-processor>\n";
    const FEEDBACK: &str =
        "<feedback-loop-processor>\n<address-list>\nLINE\n</address-list>\n</feedback-loop-processor>\n";

    fn read(text: &str) -> (Option<Config>, String) {
        let frame = "host-name mx.example.com\nspool s\nlog-file /l\nsmtp-listener 127.0.0.1:25\n";
        let files = [
            ("c", &*format!("{frame}{text}")),
            ("/p/list", "# ours\nfbl@b.example\n\n@Whole.example\nabuse\n"),
            ("/p/bad", "ann@b.example\n@no domain\n"),
            ("/p/one", "^to (?<r>\\S+)$\n"),
            ("/p/two", "# two\nto (?<r>\\S+)\nwhy (?<diag>.+)\n"),
        ];
        let loaded = config::read("c".as_ref(), None, &Memory::of(&files));
        (loaded.config, loaded.diagnostics.iter().map(Diagnostic::render).collect())
    }

    fn said_of(text: &str) -> String {
        read(text).1
    }

    #[test]
    fn a_reserved_queue_that_is_not_known_is_an_error_with_a_suggestion() {
        let block = |name: &str| said_of(&format!("<domain {name}>\nlog-messages yes\n</domain>\n"));
        for (name, meant) in [("{bouncer}", "{bounce}"), ("{feedbckloop}", "{feedbackLoop}")] {
            let said = block(name);
            assert!(said.contains(&format!("error: there is no reserved queue {name}")), "{said}");
            assert!(said.contains(&format!("did you mean {meant}?")), "{said}");
        }
        assert!(block("{nonsense}").contains("the reserved queues are {bounce}, {bounceProcessor}, {feedbackLoop}"));
        assert!(block("{sparkpost}").contains("warning: the queue {sparkpost} is not supported yet"));
        for name in ["{bounce}", "{bounceProcessor}", "{feedbackLoop}", "{feedbackloop}"] {
            assert_eq!(block(name), "", "{name}");
        }
    }

    #[test]
    fn a_reserved_queue_says_what_does_nothing_in_it() {
        let block = "<domain {bounce}>\nlog-messages yes\nmax-smtp-out 3\n</domain>\n";
        assert!(
            said_of(block).contains("warning: <domain {bounce}> does nothing without <bounce-processor>: max-smtp-out")
        );
        let address = said_of(&(BOUNCE.replace("LINE", "address b@b.example") + block));
        assert!(address.contains("warning: in <domain {bounce}> only log-messages works"), "{address}");
        assert_eq!(said_of(&(BOUNCE.replace("LINE", "domain b.example") + block)), "");
        let token = "<return-path-token>\ndomain b.example\nkey k0 0123456789abcdef\n</return-path-token>\n";
        assert_eq!(said_of(&(BOUNCE.replace("LINE", "address b@b.example") + token + block)), "");
    }

    #[test]
    fn entries_that_name_no_domain_are_said_to_be_refused_from_outside() {
        let pattern = said_of(&BOUNCE.replace("LINE", "address /^vb-[0-9]+@/"));
        assert!(pattern.contains("warning: <bounce-processor>: /^vb-[0-9]+@/ names no domain"), "{pattern}");
        assert!(pattern.contains("or write relay-domain D"), "{pattern}");
        let local = said_of(&("relay-domain ours.example\n".to_owned() + &BOUNCE.replace("LINE", "address abuse")));
        assert!(local.contains("note: <bounce-processor>: from outside, abuse without a domain"), "{local}");
        assert!(local.contains("only at mx.example.com, ours.example"), "{local}");
        assert_eq!(said_of(&BOUNCE.replace("LINE", "address /^vb-[0-9]+@verp\\.example$/")), "");
    }

    #[test]
    fn the_file_of_a_processor_takes_what_other_address_files_take() {
        let (config, said) = read(&BOUNCE.replace("LINE", "address-file /p/list"));
        let processor = config.and_then(|c| c.bounce_processor).unwrap_or_else(|| panic!("{said}"));
        let takes = |a: &str, entries| processor.takes(&Address::parse(a).unwrap(), entries);
        assert!(takes("any@whole.example", Entries::WithDomain) && takes("fbl@b.example", Entries::WithDomain));
        assert!(takes("abuse@x.example", Entries::All) && !takes("abuse@x.example", Entries::WithDomain));
        let bad = said_of(&BOUNCE.replace("LINE", "address-file /p/bad"));
        assert!(bad.contains("/p/bad:2:") && bad.contains("one address, local part or @domain on each line"), "{bad}");
    }

    #[test]
    fn what_is_written_twice_is_noted() {
        let both = BOUNCE.replace("LINE", "domain b.example\naddress x@c.example")
            + &FEEDBACK.replace("LINE", "domain B.example\naddress x@C.example");
        let said = said_of(&both);
        assert!(said.contains("warning: b.example is in both processors: <bounce-processor> gets its mail"), "{said}");
        assert!(said.contains("warning: x@c.example is in both processors"), "{said}");
        let twice = said_of(&BOUNCE.replace("LINE", "domain b.example\ndomain B.example"));
        assert!(twice.contains("note: domain B.example is given again"), "{twice}");
        let list = "<address-list>\ndomain c.example\n</address-list>\n</bounce-processor>";
        let blocks = BOUNCE.replace("LINE", "domain b.example").replace("</bounce-processor>", list);
        let blocks = said_of(&blocks);
        assert!(blocks.contains("note: <address-list> is given again; both are merged"), "{blocks}");
    }

    #[test]
    fn a_pattern_of_several_lines_is_said_to_be_one_and_one_that_is_not_utf_8_is_refused() {
        let with = |file: &str| {
            let list = format!("<email-patterns>\nbody-pattern-file {file}\n</email-patterns>\n</bounce-processor>");
            said_of(&BOUNCE.replace("LINE", "domain b.example").replace("</bounce-processor>", &list))
        };
        assert_eq!(with("/p/one"), "");
        let two = with("/p/two");
        assert!(two.contains("note: /p/two: its 2 lines are one pattern"), "{two}");
        let read = |bytes: &[u8]| {
            config::BodyPattern::from_bytes("p".as_ref(), bytes, config::body_pattern::BOUNCE_GROUPS, &mut Vec::new())
        };
        let error = read(b"# x\nto (?<r>\\S+)\xff\n").unwrap_err();
        assert!(error.line == 1 && error.message.contains("UTF-8"), "{error:?}");
        assert!(read("zurück an (?<r>\\S+)".as_bytes()).is_ok());
    }

    #[test]
    fn a_token_header_without_a_name_is_said_to_do_nothing() {
        let token = "<return-path-token>\ndomain b.example\nkey k0 0123456789abcdef\nHEADER\n</return-path-token>\n";
        let bounce = BOUNCE.replace("LINE", "domain b.example");
        let text = |header: &str, add: &str| {
            said_of(&format!(
                "{bounce}{}<domain *>\nadd-token-header {add}\n</domain>\n",
                token.replace("HEADER", header)
            ))
        };
        assert!(text("", "yes").contains("warning: add-token-header has no effect: no header is named"));
        assert_eq!(text("header X-Report-Token", "yes"), "");
        assert_eq!(text("", "no"), "");
    }
}
