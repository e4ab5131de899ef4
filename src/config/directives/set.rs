//! The value types of the table's rows, each with the function that sets the value, so that a row can't be read as one
//! type and stored as another.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Directive;
use crate::config::lexer::{Args, Span, Word};
use crate::config::model::Rate;
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};
use crate::event::Kinds;

/// A value that was read and can be put into any number of `T`s: queue settings are merged from several blocks.
pub type Change<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

/// The reader of a value type that only one row has. Findings that are no errors are reported to `Reading`.
pub type Read<T> = fn(&mut Args<'_>, &mut Reading<'_>) -> Result<Change<T>, ValueError>;

/// A value type and what to do with the value.
pub enum Set<T> {
    /// `yes`, `no`
    Bool(fn(&mut T, bool)),
    /// A number from the first to the second.
    Int(u64, u64, fn(&mut T, u64)),
    /// A number, or this word for none.
    Limit(&'static str, fn(&mut T, Option<u64>)),
    /// Bytes; 0 or `unlimited` is 0.
    Size(fn(&mut T, u64)),
    /// From the first to the second many seconds.
    Time(u64, u64, fn(&mut T, Duration)),
    /// A time or `never`.
    TimeOrNever(fn(&mut T, Option<Duration>)),
    /// A list of times.
    Times(fn(&mut T, Vec<Duration>)),
    /// So many per so long.
    Rate(fn(&mut T, Option<Rate>)),
    /// Any text; `""` is none.
    Text(fn(&mut T, String)),
    /// A host name.
    Host(fn(&mut T, String)),
    /// An address.
    Email(fn(&mut T, String)),
    /// A file or folder.
    Path(fn(&mut T, PathBuf)),
    /// The name of a VirtualMTA or pool; `""` is none. Whether it exists is checked at the end.
    VirtualMta(fn(&mut T, Option<String>)),
    /// The name of a `<source>`. Whether it exists is checked at the end.
    Source(fn(&mut T, String)),
    /// A list of record types.
    Kinds(fn(&mut T, Kinds)),
    /// Another type: its name, a right value, its reader.
    Other(&'static str, &'static str, Read<T>),
}

impl<T> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

impl<T> Set<T> {
    /// As directives.md abbreviates it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Set::Bool(_) => "BOOL",
            Set::Int(..) => "INT",
            Set::Limit(..) => "INT or none",
            Set::Size(_) => "SIZE",
            Set::Time(..) => "TIME",
            Set::TimeOrNever(_) => "TIME or never",
            Set::Times(_) => "TIMES",
            Set::Rate(_) => "RATE",
            Set::Text(_) => "STR",
            Set::Host(_) => "HOST",
            Set::Email(_) => "EMAIL",
            Set::Path(_) => "FILE",
            Set::VirtualMta(_) => "VMTA",
            Set::Source(_) => "SOURCE",
            Set::Kinds(_) => "LIST of record types",
            Set::Other(name, ..) => name,
        }
    }

    /// A value that can be read, for documentation and tests.
    pub const fn sample(&self) -> &'static str {
        match self {
            Set::Bool(_) => "yes",
            Set::Int(..) | Set::Limit(..) => "20",
            Set::Size(_) => "10M",
            Set::Time(..) | Set::TimeOrNever(_) => "4m",
            Set::Times(_) => "5m,10m,1h",
            Set::Rate(_) => "100/m",
            Set::Text(_) => "text",
            Set::Host(_) => "mail.example.com",
            Set::Email(_) => "postmaster@example.com",
            Set::Path(_) => "/var/lib/carom/file",
            Set::VirtualMta(_) => "{default}",
            Set::Source(_) => "{auth}",
            Set::Kinds(_) => "d,b",
            Set::Other(_, sample, _) => sample,
        }
    }
}

/// A name that must exist somewhere else in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `true`: a VirtualMTA or pool; `false`: a source.
    pub virtual_mta: bool,
    /// As written.
    pub name: String,
    /// Where.
    pub span: Span,
}

/// A directive that stands in the configuration, its value read.
pub struct Setting<T> {
    /// The directive's name in the table.
    pub name: &'static str,
    /// The value as written.
    pub text: String,
    /// Where the directive stands.
    pub span: Span,
    /// What else must exist for it.
    pub reference: Option<Reference>,
    change: Change<T>,
}

impl<T> Setting<T> {
    /// Puts the value into `target`.
    pub fn apply(&self, target: &mut T) {
        (self.change)(target);
    }
}

impl<T> Clone for Setting<T> {
    fn clone(&self) -> Setting<T> {
        Setting {
            name: self.name,
            text: self.text.clone(),
            span: self.span,
            reference: self.reference.clone(),
            change: Arc::clone(&self.change),
        }
    }
}

impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the value: it may be a secret.
        f.debug_tuple("Setting").field(&self.name).finish()
    }
}

impl<T> PartialEq for Setting<T> {
    fn eq(&self, other: &Setting<T>) -> bool {
        self.name == other.name && self.text == other.text
    }
}

fn change<T: 'static, V: Clone + Send + Sync + 'static>(set: fn(&mut T, V), value: V) -> Change<T> {
    Arc::new(move |target| set(target, value.clone()))
}

impl<T: 'static> Directive<T> {
    /// Reads the value from `args`, which stand behind the directive's name at `name_span`. `None` when it can't be
    /// read; what is wrong has been reported.
    pub fn read(&'static self, name_span: Span, args: &mut Args<'_>, reading: &mut Reading<'_>) -> Option<Setting<T>> {
        let written = args.clone().rest();
        let value_span = args.rest_span();
        if written.is_none() {
            let hint = if args.line().has_comment { "; a # begins a comment, also inside a value" } else { "" };
            let help = format!("write {} {}{hint}", self.name, self.set.sample());
            reading.error(name_span, format!("{}: argument missing", self.name), help);
            return None;
        }
        let mut reference = None;
        let result = self.value(args, reading, &mut reference);
        let change = match result {
            Ok(change) => change,
            Err(e) => {
                reading.error(value_span, format!("{}: {e}", self.name), e.help);
                return None;
            }
        };
        if !args.is_empty() {
            let help = format!("{} takes one value ({})", self.name, self.set.type_name());
            reading.error(args.rest_span(), format!("{}: unexpected text after the value", self.name), help);
            return None;
        }
        let text = written.map(|w| w.text).unwrap_or_default();
        Some(Setting { name: self.name, text, span: name_span, reference, change })
    }

    fn value(
        &self,
        args: &mut Args<'_>,
        reading: &mut Reading<'_>,
        reference: &mut Option<Reference>,
    ) -> Result<Change<T>, ValueError> {
        let word = match self.set {
            Set::Other(..) => None,
            Set::Times(_) | Set::Rate(_) | Set::Text(_) | Set::Kinds(_) => args.rest(),
            _ => args.word(),
        };
        let word = word.unwrap_or(Word { text: String::new(), quoted: false, span: args.rest_span() });
        let text = word.text.as_str();
        let mut refer = |virtual_mta| {
            *reference = Some(Reference { virtual_mta, name: text.to_owned(), span: word.span });
        };
        Ok(match self.set {
            Set::Bool(set) => change(set, values::boolean(text)?),
            Set::Int(min, max, set) => change(set, values::integer(text, min, max)?),
            Set::Limit(none, set) => {
                let unlimited = text.eq_ignore_ascii_case(none) || text.eq_ignore_ascii_case("unlimited");
                change(set, if unlimited { None } else { Some(values::integer(text, 0, u64::from(u32::MAX))?) })
            }
            Set::Size(set) => change(set, values::size(text)?),
            Set::Time(min, max, set) => {
                let time = values::time(text)?;
                if !(min..=max).contains(&time.as_secs()) {
                    return Err(ValueError {
                        message: format!("`{text}` is out of range"),
                        help: format!("write a time from {min}s to {max}s"),
                    });
                }
                unit_note(text, &word, reading);
                change(set, time)
            }
            Set::TimeOrNever(set) => {
                let never = text.eq_ignore_ascii_case("never");
                change(set, if never { None } else { Some(values::time(text)?) })
            }
            Set::Times(set) => {
                unit_note(text, &word, reading);
                change(set, values::times(text)?)
            }
            Set::Rate(set) => change(set, values::rate(text)?),
            Set::Text(set) => change(set, text.to_owned()),
            Set::Host(set) => {
                let name = text.strip_prefix("://");
                if name.is_some() {
                    reading.warning(word.span, "a stray :// before the host name is dropped", "write the name alone");
                }
                change(set, values::host(name.unwrap_or(text))?)
            }
            Set::Email(set) => change(set, values::email(text)?),
            Set::Path(_) if text.is_empty() => {
                return Err(ValueError { message: "no file is named".into(), help: "write a path".into() });
            }
            Set::Path(set) => change(set, reading.resolve(text)),
            Set::VirtualMta(set) => {
                let some = (!text.is_empty()).then(|| text.to_owned());
                if some.is_some() {
                    refer(true);
                }
                change(set, some)
            }
            Set::Source(set) => {
                refer(false);
                change(set, text.to_owned())
            }
            Set::Kinds(set) => change(set, values::kinds(text)?),
            Set::Other(_, _, read) => read(args, reading)?,
        })
    }
}

/// Says that a plain number was read as seconds.
fn unit_note(text: &str, word: &Word, reading: &mut Reading<'_>) {
    if text.bytes().all(|b| b.is_ascii_digit()) && text != "0" {
        reading.note(word.span, "a time without a unit is read as seconds", format!("write {text}s"));
    }
}
