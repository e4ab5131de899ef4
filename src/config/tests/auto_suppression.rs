//! `<auto-suppression>`.

use super::*;
use crate::event::ScopeKind;

fn block(lines: &str) -> String {
    format!("spool s\n<auto-suppression>\n{lines}\n</auto-suppression>\n")
}

#[test]
fn what_the_documentation_shows_is_what_holds_without_a_block() {
    let shown = block(
        "rule hard       category bad-mailbox,inactive-mailbox             after 1      # 5xx / 5.x.x only\n\
         rule domain     category bad-domain           after 3 within 1d   expire 30d   # suppresses the domain\n\
         rule full       category quota-issues        after 5 within 30d    expire 90d\n\
         rule unreach    category no-answer-from-host,bad-connection,routing-errors after 8 within 14d  expire 30d\n\
         rule complaint  feedback abuse,fraud,virus                         after 1\n\
         rule unsub      unsubscribe                                        after 1  scope list\n\
         never           category spam-related,policy-related,content-related\n\
         scope           global            # or: job, sender-domain, vmta, list",
    );
    let mut none = good("spool s\n").auto_suppression;
    none.never.sort_unstable();
    assert_eq!(good(&shown).auto_suppression, none);
    let domain = none.rule("domain").unwrap();
    assert_eq!((domain.subject, domain.over), (RuleSubject::Domain, secs(3600)));
    assert_eq!(none.scope_of(none.rule("unsub").unwrap()), ScopeKind::List);
}

#[test]
fn what_is_printed_reads_back() {
    let text = block(
        "rule a category bad-mailbox after 2 within 36h over 1h expire 90m scope job\nrule b feedback abuse after 1\n\
         rule c category bad-domain,routing-errors after 4 subject domain\nnever category none\nscope sender-domain\n\
         fold-dots GMail.com\nfold-plus-tags gmail.com,bücher.example\nbreaker-multiple 7\nbreaker-window 2h",
    );
    let made = good(&text).auto_suppression;
    assert_eq!(good(&block(&made.to_string())).auto_suppression, made);
    assert_eq!(made.fold_plus_tags.len(), 2);
    assert!(made.never.is_empty());
    assert_eq!(made.rule("c").unwrap().over, secs(3600));
}

#[test]
fn what_is_misspelt_or_contradicts_itself_is_told_with_its_line_and_what_was_meant() {
    for (line, message, help) in [
        (
            "rule a category bad-malbox after 1",
            "no pattern gives the category `bad-malbox`",
            "did you mean bad-mailbox?",
        ),
        ("rule a categry bad-mailbox after 1", "`categry` is no evidence", "did you mean category?"),
        ("rule a category bad-mailbox aftr 1", "`aftr` is no part of a rule", "did you mean after?"),
        ("rule a category bad-mailbox", "does not say after how many", "write after 1"),
        ("rule a category bad-mailbox after 1 within 1d", "after 1 and within contradict", "take within out"),
        ("rule a category quota-issues after 3 within 1h over 2h", "could never apply", "make within the longer"),
        ("rule a category quota-issues after 0", "out of range", "a number from 1"),
        ("rule a category quota-issues after 2 expire 30", "not a time with a unit", "30d"),
        ("rule a category quota-issues after 2 after 3", "given twice", "keep one"),
        ("rule a category policy-related after 5", "never to count", "a never line without it"),
        ("rule a category suppressed after 5", "never counts", "take"),
        ("rule a feedback not-spam after 1", "takes a complaint back", "take it out"),
        ("rule a feedback abus after 1", "no feedback type", "did you mean abuse?"),
        ("rule a unsubscribe after 1 subject domain", "no reason to suppress a domain", "take subject domain out"),
        ("rule a feedback abuse after 1 scope lists", "`lists` is no scope", "did you mean list?"),
        ("rule a feedback abuse after 1\nrule A feedback fraud after 1", "two rules a", "c:4"),
        ("rule manual feedback abuse after 1", "no rule made", "another name"),
        ("never spam-related", "is not what can be left out", "never category"),
        ("rul a feedback abuse after 1", "no such directive in <auto-suppression>", "did you mean rule?"),
    ] {
        let loaded = parse_str("c", &block(line));
        let error = loaded.diagnostics.iter().find(|d| d.is_error()).unwrap_or_else(|| panic!("{line}: no error"));
        let rendered = error.render();
        assert!(error.line >= 3 && rendered.contains(message), "{line}: {rendered}");
        assert!(rendered.contains(help), "{line}: {rendered}");
    }
}

#[test]
fn a_category_that_only_a_pattern_of_the_operator_gives_may_be_counted() {
    let text = block("rule gone category left-company after 2");
    assert!(parse_str("c", &text).config.is_none());
    let patterns = "<bounce-category-patterns>\n/has left/ left-company\n</bounce-category-patterns>\n";
    assert!(good(&format!("{text}{patterns}")).auto_suppression.rule("GONE").is_some());
}
