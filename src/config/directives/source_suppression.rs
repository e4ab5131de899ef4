//! The rows of `<source>` about suppression: under which terms its mail is looked up, and what becomes of a recipient
//! that is suppressed.

use std::sync::Arc;

use super::Directive;
use super::set::{Change, Set};
use crate::config::lexer::Args;
use crate::config::model::{Source, SuppressionOutcome};
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};
use crate::event::{ScopeKind, ScopeKinds};

type S = Directive<Source>;

/// `suppression-lists`
pub const LISTS: S = S::one(
    "suppression-lists",
    Set::Other("LIST of names", "blocked", lists),
    "",
    "The <address-list>s whose addresses get no mail from this source",
);

/// `suppression-outcome`
pub const OUTCOME: S = S::one(
    "suppression-outcome",
    Set::Other("{reject,bounce,drop}", "bounce", outcome),
    "",
    "A suppressed recipient is refused (reject), or accepted and recorded with b: bounce reports it to the sender where \
     he asked for reports, drop never does; without it accept-invalid-recipients decides between reject and bounce",
);

/// `suppression-exempt-scopes`
pub const EXEMPT_SCOPES: S = S::one(
    "suppression-exempt-scopes",
    Set::Other("LIST of scopes", "job,list", exempt_scopes),
    "",
    "Entries of the suppression list with these scopes do not count for mail of this source",
);

/// `suppression-exempt-rules`
pub const EXEMPT_RULES: S = S::one(
    "suppression-exempt-rules",
    Set::Other("LIST of rules", "complaint,unsub", exempt_rules),
    "",
    "Entries of the suppression list by these rules do not count for mail of this source, such as a password reset; * \
     is all of them",
);

/// `list-id-header`
pub const LIST_ID_HEADER: S = S::one(
    "list-id-header",
    Set::Text(|s, v| s.list_id_header = Some(v).filter(|v| !v.is_empty())),
    "",
    "Another header to take the mailing list from, for entries of scope list; without it, or where it is missing, List-Id",
);

const LISTS_HELP: &str = "write the names of <address-list>s, such as suppression-lists blocked,partners";

fn lists(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let text = args.rest().map(|word| word.text).unwrap_or_default();
    let names: Vec<String> = values::list(&text).map(str::to_lowercase).collect();
    if names.is_empty() && !text.is_empty() {
        return Err(ValueError { message: "no list is named".into(), help: LISTS_HELP.into() });
    }
    Ok(Arc::new(move |s| s.suppression_lists.clone_from(&names)))
}

fn outcome(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let text = args.word().map(|word| word.text).unwrap_or_default();
    let outcome = match text.to_ascii_lowercase().as_str() {
        "reject" => SuppressionOutcome::Reject,
        "bounce" => SuppressionOutcome::Bounce,
        "drop" => SuppressionOutcome::Drop,
        _ => {
            let message = format!("\"{text}\" is nothing that can become of a suppressed recipient");
            return Err(ValueError { message, help: "write reject, bounce or drop".into() });
        }
    };
    Ok(Arc::new(move |s| s.suppression_outcome = Some(outcome)))
}

fn exempt_scopes(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let text = args.rest().map(|word| word.text).unwrap_or_default();
    let mut kinds = ScopeKinds::default();
    for name in values::list(&text) {
        let Some(kind) = ScopeKind::by_name(name) else {
            let names: Vec<&str> = ScopeKind::ALL.iter().map(|kind| kind.name()).collect();
            let message = format!("there is no scope \"{name}\"");
            return Err(ValueError { message, help: format!("the scopes are {}", names.join(", ")) });
        };
        kinds = kinds.with(kind);
    }
    Ok(Arc::new(move |s| s.suppression_exempt_scopes = kinds))
}

fn exempt_rules(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let text = args.rest().map(|word| word.text).unwrap_or_default();
    let names: Vec<&str> = values::list(&text).collect();
    let is_name =
        |name: &&&str| **name == "*" || name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if let Some(wrong) = names.iter().find(|name| !is_name(name)) {
        let message = format!("\"{wrong}\" is not the name of a rule");
        return Err(ValueError { message, help: "write names of rules, such as complaint,unsub, or *".into() });
    }
    let names: Box<str> = names.join(",").to_lowercase().into();
    Ok(Arc::new(move |s| s.suppression_exempt_rules.clone_from(&names)))
}
