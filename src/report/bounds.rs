//! How much of one mail is read and kept: the bounds of the whole room, since reports are hostile input. They are far
//! above what mail systems write. What one file alone counts, such as steps of a search, stands there.

/// Bytes read of one mail. What a report says stands before the returned message.
pub(super) const MAX_BYTES: usize = 2 << 20;
/// Bytes read of one part: enough for a report on a thousand recipients of ten long lines each.
pub(super) const MAX_PART: usize = 1 << 20;
/// Bytes of a mail or a returned message in which its header is looked for.
pub(super) const MAX_HEADER: usize = 64 << 10;
/// Leaf parts kept.
pub(super) const MAX_PARTS: usize = 64;
/// Multiparts within multiparts that are opened.
pub(super) const MAX_DEPTH: usize = 8;
/// Reports joined into one mail that are read besides the first.
pub(super) const MAX_JOINED: usize = 32;

/// Recipients one report may speak of; further ones are left out, and counted in `left_out` of
/// [`Recognised`](super::Recognised).
pub const MAX_RESULTS: usize = 1000;
/// Recipients of one report that a search of its whole text is made for.
pub(super) const MAX_SEARCHED: usize = 100;

/// Fields kept of one block.
pub(super) const MAX_FIELDS: usize = 256;
/// Bytes kept of one field's value.
pub(super) const MAX_VALUE: usize = 4096;
/// Bytes of a field's name; a longer one is no field.
pub(super) const MAX_NAME: usize = 76;

/// Lines of text read.
pub(super) const MAX_LINES: usize = 20_000;
/// Bytes of a line that are looked at for its form.
pub(super) const MAX_LINE: usize = 1000;
/// Bytes of the text in which words are looked for.
pub(super) const MAX_LOWER: usize = 16 << 10;
/// Bytes with which a text opens.
pub(super) const MAX_OPENING: usize = 700;
/// The same under a subject such as `Re:`.
pub(super) const MAX_OPENING_IN_ANSWER: usize = 160;
/// Bytes at the beginning of a text that may say that somebody is away.
pub(super) const MAX_ABSENCE: usize = 600;

/// Bytes read of one reply.
pub(super) const MAX_REPLY: usize = 4096;
/// Bytes kept of a reason, a diagnostic or what a pattern's group matched.
pub(super) const MAX_REASON: usize = 2048;
/// Bytes of prose kept where there is nothing better.
pub(super) const MAX_SENTENCES: usize = 400;
