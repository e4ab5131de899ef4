#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: writes files, in the order of a clock")]
//! `type file`: a queue whose mail ends in files of this machine, one for each message and recipient, or one mailbox.
//!
//! Promises: a mail is on the disk (`fsync`) before its `d` event is. A new file appears under its final name only whole;
//! that name is made of store, message and recipient, so that a mail that is delivered again after a crash replaces
//! itself. A mailbox is locked (`flock`) while it grows, and cut back when it could not take all of a mail; a crash in
//! between can leave a mail in it twice, whose record says `inDoubt`. What can't be written is tried again later. No
//! address can lead out of `file-destination`: in what a macro stands for, `/` and a dot in front become `_`.
//!
//! Lines end as files of this system do, with LF.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::config::model::{FileFormat, QueueSettings};
use crate::event::{EnhancedStatus, MessageId, Stage, StoreId, Time};
use crate::queue::Fate;
use crate::store::Message;
use crate::suppress::Mail;

use super::attempt::{Attempt, Facts, Ledgered};
use super::local::{lines, put_line};
use super::macros::Delivery;
use super::outcome::{Outcome, Verdict, status};
use super::session::{Session, now};

/// What came of a recipient, with the text for its record.
type Written = Result<String, (EnhancedStatus, String)>;

/// Delivers one message to the recipients drawn.
pub(super) async fn deliver(session: &mut Session, id: MessageId, facts: &Facts) {
    let Some(message) = session.load(id).await else { return };
    if session.is_paused(&message.envelope) {
        return;
    }
    let (queue, settings) = (session.permit.queue().clone(), session.permit.settings().clone());
    let store = session.context.store.id();
    let ready = |fate: &Fate| *fate == Fate::Again;
    let drawn = || session.permit.drawn.iter().filter(|d| d.entry.message() == id && ready(&d.fate));
    let (suppression, mail, at) = (&session.context.suppression, Mail::of(&message.envelope), now());
    let mut wanted: Vec<u16> = drawn().map(|d| d.entry.state().index).collect();
    wanted.retain(|i| {
        message.envelope.rcpts.get(usize::from(*i)).is_some_and(|r| suppression.check(&r.address, &mail, at).is_none())
    });

    session.under_way(&message, facts);
    let (of, with, begun) = (message.clone(), settings.clone(), now());
    let write = move || -> HashMap<u16, Written> {
        wanted.into_iter().map(|rcpt| (rcpt, write(&of, rcpt, &with, store, begun))).collect()
    };
    let written = tokio::task::spawn_blocking(write).await.unwrap_or_default();
    session.no_longer_under_way();

    let attempt = Attempt { envelope: &message.envelope, queue: &queue, settings: &settings, facts, now: now() };
    let mut told = Ledgered::default();
    for drawn in session.permit.drawn.iter_mut().filter(|d| d.entry.message() == id && ready(&d.fate)) {
        let index = drawn.entry.state().index;
        let outcome = match written.get(&index) {
            Some(Ok(text)) => Outcome::local(Verdict::Delivered, status(2, 0, 0), text, Stage::Eod, ""),
            Some(Err((code, text))) => Outcome::local(Verdict::Deferred, *code, text, Stage::Eod, ""),
            None => match attempt.why_not(&session.context.suppression, index) {
                Some(why) => {
                    attempt.suppressed(drawn, &why, &mut told);
                    continue;
                }
                None => Outcome::local(Verdict::Deferred, status(4, 3, 0), "writing it broke off", Stage::Eod, ""),
            },
        };
        attempt.record(drawn, outcome, &mut told);
    }
    session.hand_over(&message, told).await;
}

/// Delivers to one recipient. Blocks.
fn write(message: &Message, rcpt: u16, settings: &QueueSettings, store: StoreId, now: Time) -> Written {
    let Some(template) = &settings.file_destination else {
        return Err((status(4, 3, 5), "file-destination is not set for this domain".to_owned()));
    };
    let to = message.envelope.rcpts.get(usize::from(rcpt)).map_or("", |r| &r.address);
    let preserve_case = settings.macro_variables_preserve_case;
    let delivery = Delivery { envelope: &message.envelope, to, now, preserve_case };
    let path = PathBuf::from(delivery.expand(template, harmless));
    let done = match settings.file_format {
        FileFormat::Mbox => append(&path, message, now).map(|()| path.clone()),
        FileFormat::New { envelope } => {
            let head = match envelope {
                true => format!("x-sender: {}\nx-receiver: {to}\n", message.envelope.orig),
                false => String::new(),
            };
            put_new(&path, &format!("{store}-{}-{rcpt}", message.envelope.id), &head, &message.body)
        }
    };
    match done {
        Ok(path) => Ok(format!("written to {}", path.display())),
        Err(error) => {
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let code = if full { status(4, 3, 1) } else { status(4, 3, 0) };
            Err((code, format!("{}: {error}", path.display())))
        }
    }
}

/// What comes from outside as a part of one file name.
fn harmless(value: &str) -> String {
    let safe = |(at, c): (usize, char)| if c == '/' || c.is_control() || (at == 0 && c == '.') { '_' } else { c };
    let cut = &value[..value.floor_char_boundary(200)];
    cut.char_indices().map(safe).collect()
}

/// A new file in the folder; appears under its name when it is whole and on the disk.
fn put_new(folder: &Path, name: &str, head: &str, body: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let (unfinished, finished) = (folder.join(format!("{name}.tmp")), folder.join(format!("{name}.msg")));
    let mut text = head.as_bytes().to_vec();
    lines(body).for_each(|line| put_line(&mut text, line));
    let mut file = File::create(&unfinished)?;
    let done = file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&unfinished, &finished));
    if done.is_err() {
        let _ = fs::remove_file(&unfinished); // the error that counts is the first
    }
    done?;
    File::open(folder)?.sync_all()?;
    Ok(finished)
}

/// One more mail at the end of a mailbox, whose lines that look like the beginning of the next are quoted (mboxrd).
fn append(path: &Path, message: &Message, now: Time) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let zoned = now.timestamp().unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    let from = match &*message.envelope.orig {
        "" => "MAILER-DAEMON".to_owned(),
        orig => orig.replace([' ', '\t'], "_"),
    };
    let mut text = format!("From {from} {}\n", zoned.strftime("%a %b %e %H:%M:%S %Y")).into_bytes();
    for line in lines(&message.body) {
        let unquoted = line.iter().position(|b| *b != b'>').map_or(&line[..0], |at| &line[at..]);
        if unquoted.starts_with(b"From ") {
            text.push(b'>');
        }
        put_line(&mut text, line);
    }
    text.push(b'\n');
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?; // released with the file
    let end = file.seek(SeekFrom::End(0))?;
    let done = file.write_all(&text).and_then(|()| file.sync_all());
    if done.is_err() {
        let _ = file.set_len(end); // half a mail would spoil the next one
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Template;
    use crate::delivery::macros::tests::message;

    fn settings(destination: &str, file_format: FileFormat) -> QueueSettings {
        QueueSettings { file_destination: Some(Template::parse(destination)), file_format, ..QueueSettings::default() }
    }

    const NOW: Time = Time::from_secs(1_700_000_000);

    #[test]
    fn macros_name_the_recipient_and_lead_nowhere_else() {
        let expand = |template: &str, to: &str| {
            let message = message(to, "");
            let delivery = Delivery { envelope: &message.envelope, to, now: NOW, preserve_case: false };
            delivery.expand(&Template::parse(template), harmless)
        };
        assert_eq!(expand("/m/$domain/$user-$isodate", "Ann+x@There.example"), "/m/there.example/ann-2023-11-14");
        assert_eq!(expand("/m/$to/$envid", "../../etc/x@there.example"), "/m/_._.._etc_x@there.example/_._e");
        assert_eq!(expand("/m/$$nothing$", "a@b"), "/m/$$nothing$");
    }

    #[test]
    fn a_mailbox_grows_by_whole_mails_whose_from_lines_are_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("box/$domain");
        let mbox = settings(path.to_str().unwrap(), FileFormat::Mbox);
        let mail = message("ann@there.example", "Subject: x\r\n\r\nFrom me\r\n>From you\r\nFromage\r\n");
        for _ in 0..2 {
            write(&mail, 0, &mbox, StoreId(1), NOW).unwrap();
        }
        let one = "From News@from.example Tue Nov 14 22:13:20 2023\nSubject: x\n\n>From me\n>>From you\nFromage\n\n";
        assert_eq!(fs::read_to_string(dir.path().join("box/there.example")).unwrap(), one.repeat(2));
    }

    #[test]
    fn a_new_file_is_whole_when_it_has_its_name_and_delivering_again_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let into = settings(dir.path().to_str().unwrap(), FileFormat::New { envelope: true });
        for _ in 0..2 {
            write(&message("ann@there.example", "Subject: x\r\n\r\nhi"), 0, &into, StoreId(1), NOW).unwrap();
        }
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(names[0].extension().unwrap(), "msg");
        let text = fs::read_to_string(&names[0]).unwrap();
        assert_eq!(text, "x-sender: News@from.example\nx-receiver: ann@there.example\nSubject: x\n\nhi\n");
        // A folder that can't be made is no reason to lose the mail.
        fs::write(dir.path().join("file"), "").unwrap();
        let under_a_file = settings(dir.path().join("file/in").to_str().unwrap(), FileFormat::New { envelope: false });
        let (code, text) = write(&message("a@b", "x"), 0, &under_a_file, StoreId(1), NOW).unwrap_err();
        assert!(code.class == 4 && text.contains("file/in"), "{code} {text}");
    }
}
