//! `<address-list>` (directives.md, 2.5): inside a processor whose mail it reads, at the top level whom sources that cite
//! it in `suppression-lists` do not mail.
//!
//! Both have the same rows. What differs is how an `address-file` is read: a processor's is small and read with the
//! configuration; that of a list at the top level may have 100 million lines, so here it is only named, and read by
//! `suppress::address_lists`.

use std::path::PathBuf;
use std::sync::Arc;

use super::Directive;
use super::set::{Change, Set};
use crate::config::address_list::AddressList;
use crate::config::lexer::Args;
use crate::config::pattern::Pattern;
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};

type L = Directive<AddressListBlock>;

/// What stands in an `<address-list>`.
#[derive(Debug, Clone, Default)]
pub struct AddressListBlock {
    /// `address`, `domain`; inside a processor also what the files hold.
    pub list: AddressList,
    /// `address-file`s of a list at the top level.
    pub files: Vec<PathBuf>,
}

const DOMAIN: L = L::many("domain", Set::Host(|b, v| b.list.add_domain(&v)), "Every address at this domain");

const ADDRESS: L = L::many(
    "address",
    Set::Other("EMAIL, local part or /REGEX/", "bounces@example.com", address),
    "One address, a local part at any domain, or every address in which the pattern is found, whatever its case",
);

/// The rows of an `<address-list>` inside a processor.
pub const ADDRESS_LIST: &[L] = &[
    DOMAIN,
    ADDRESS,
    L::many(
        "address-file",
        Set::Other("FILE", "/etc/carom/bounce-addresses", read_file),
        "A file with an address, a local part or @domain on each line",
    ),
];

/// The rows of an `<address-list NAME>` at the top level.
pub const SUPPRESSION_LIST: &[L] = &[
    DOMAIN,
    ADDRESS,
    L::many(
        "address-file",
        Set::Other("FILE", "/etc/carom/never.txt", name_file),
        "A file of any length with an address, a local part or @domain on each line; read again when it changes",
    ),
];

const ADDRESS_HELP: &str = "write an address, a local part or /REGEX/; for all addresses of a domain write domain D";

fn address(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AddressListBlock>, ValueError> {
    if let Some(regex) = args.clone().regex() {
        args.regex();
        let pattern = Pattern::new(&regex.text, false)
            .map_err(|e| ValueError { message: format!("not a pattern: {e}"), help: ADDRESS_HELP.into() })?;
        if pattern.is_match("") {
            let message = "the pattern matches every address".to_owned();
            return Err(ValueError { message, help: "write out what the addresses have in common".into() });
        }
        return Ok(Arc::new(move |b| b.list.add_pattern(pattern.clone())));
    }
    let Some(word) = args.rest() else {
        return Err(ValueError { message: "no address".into(), help: ADDRESS_HELP.into() });
    };
    if word.text.starts_with('/') {
        return Err(ValueError { message: "the pattern is not closed".into(), help: "write /REGEX/".into() });
    }
    let address = one_address(&word.text)?;
    Ok(Arc::new(move |b| b.list.add_address(&address)))
}

fn one_address(text: &str) -> Result<String, ValueError> {
    match text.contains('@') {
        true => values::email(text),
        // A local part is checked as part of an address.
        false => values::email(&format!("{text}@x")).map(|_| text.to_owned()),
    }
}

fn read_file(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<AddressListBlock>, ValueError> {
    let word = args.rest();
    let path = reading.resolve(word.as_ref().map_or("", |w| &w.text));
    let text = super::report::read(reading, &path)?;
    let (mut addresses, mut domains) = (Vec::new(), Vec::new());
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |e: ValueError| ValueError {
            message: format!("{}:{}: {}", path.display(), n + 1, e.message),
            help: "write one address, local part or @domain on each line".into(),
        };
        match line.strip_prefix('@') {
            Some(domain) => domains.push(values::host(domain).map_err(wrong)?),
            None => addresses.push(one_address(line).map_err(wrong)?),
        }
    }
    if addresses.is_empty() && domains.is_empty() {
        let span = word.map(|w| w.span).unwrap_or_default();
        reading.warning(span, format!("{} holds no address", path.display()), "");
    }
    Ok(Arc::new(move |b| {
        addresses.iter().for_each(|a| b.list.add_address(a));
        domains.iter().for_each(|d| b.list.add_domain(d));
    }))
}

/// A file that is not there is no error: the list keeps what it held before, or mail that asks for it waits.
fn name_file(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<AddressListBlock>, ValueError> {
    let Some(word) = args.rest().filter(|word| !word.text.is_empty()) else {
        return Err(ValueError { message: "no file is named".into(), help: "write a path".into() });
    };
    let path = reading.resolve(&word.text);
    if !reading.files.exists(&path) {
        let message = format!("{} is not there: until it is, mail of sources with this list gets 451", path.display());
        reading.warning(word.span, message, "check the path and the permissions");
    }
    reading.named_at(&path, word.span);
    Ok(Arc::new(move |b| b.files.push(path.clone())))
}
