//! A command line of the configuration: a program and its arguments, without a shell. Pure.
//!
//! Promises: the line is parted into arguments once, when it is read; macros are replaced within an argument afterwards,
//! so that nothing a mail brings can add an argument, end one, or be read as anything but text. The program itself is
//! named by the configuration alone.

use std::fmt;

use super::delivery_macro::Template;

/// A program and its arguments: blanks part them, quotes of both kinds keep them together, a backslash keeps the next
/// character. No shell is involved. A quote that is not closed reaches to the end.
pub fn words(command: &str) -> Vec<String> {
    split(command).0
}

/// The words, and whether every quote is closed.
fn split(command: &str) -> (Vec<String>, bool) {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\\', q) if q != Some('\'') => word.get_or_insert_default().extend(chars.next()),
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (words, quote.is_none())
}

/// What `command` says, with macros in the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program: a path, or a name to be looked for in `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<Template>,
}

/// Why a text is no [`Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No word in it.
    #[error("no program is named")]
    Empty,
    /// A quote that is not closed.
    #[error("a quote is not closed")]
    OpenQuote,
    /// What a mail brings would choose the program.
    #[error("a macro can't stand in the name of the program")]
    MacroInProgram,
    /// What a mail brings would be run.
    #[error(
        "a macro in the script of a shell or another interpreter would let every sender run commands: pass it behind the \
         script, as \"$1\""
    )]
    MacroInScript,
    /// A NUL, which ends an argument.
    #[error("a NUL can't stand in a command")]
    Nul,
}

impl Command {
    /// Reads a command line.
    pub fn parse(text: &str) -> Result<Command, CommandError> {
        let (words, closed) = split(text);
        if !closed {
            return Err(CommandError::OpenQuote);
        }
        if text.contains('\0') {
            return Err(CommandError::Nul);
        }
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty()).ok_or(CommandError::Empty)?;
        if Template::parse(&program).has_macros() {
            return Err(CommandError::MacroInProgram);
        }
        let arguments: Vec<Template> = words.map(|word| Template::parse(&word)).collect();
        if has_macro_in_script(&program, &arguments) {
            return Err(CommandError::MacroInScript);
        }
        Ok(Command { program, arguments })
    }

    /// The program without its folder, for messages.
    pub fn name(&self) -> &str {
        self.program.rsplit('/').next().unwrap_or_default()
    }
}

/// Who runs the word behind an option with one of these letters as a script.
const INTERPRETERS: &[(&[&str], &[char])] = &[
    (&["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh", "busybox", "su", "runuser"], &['c']),
    (&["perl", "ruby", "lua"], &['e', 'E']),
    (&["python", "python2", "python3"], &['c']),
    (&["node"], &['e', 'p']),
    (&["php"], &['r']),
];
/// Who makes one command line of all words behind a host, and has a shell run it.
const REMOTE: &[&str] = &["ssh", "rsh"];

/// Whether a shell or another interpreter, run at once or by `env` and the like, gets a script with a macro in it.
/// Rather one command too many is refused than one too few.
fn has_macro_in_script(program: &str, arguments: &[Template]) -> bool {
    let words: Vec<String> =
        std::iter::once(program.to_owned()).chain(arguments.iter().map(Template::to_string)).collect();
    let name = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let short = |word: &str| word.starts_with(['-', '+']) && !word.starts_with("--");
    let has_macros = |at: usize| at > 0 && arguments.get(at - 1).is_some_and(Template::has_macros);
    // `env -S` makes words of one word, a shell and its script among them.
    let parts = |word: &String| short(word) && word.contains('S') || word.starts_with("--split-string");
    let parted = words.iter().position(|w| name(w) == "env").is_some_and(|env| words[env + 1..].iter().any(parts));
    if parted || words.iter().any(|w| REMOTE.contains(&name(w).as_str())) {
        return arguments.iter().any(Template::has_macros);
    }
    let letters = |word: &str| INTERPRETERS.iter().find(|(names, _)| names.contains(&name(word).as_str())).map(|i| i.1);
    let Some((interpreter, letters)) = words.iter().enumerate().find_map(|(at, w)| Some((at, letters(w)?))) else {
        return false;
    };
    let takes_script = |word: &str| {
        short(word) && word.contains(letters) || ["--command", "--eval", "--print"].iter().any(|o| word.starts_with(o))
    };
    let Some(option) = (interpreter + 1..words.len()).find(|at| takes_script(&words[*at])) else { return false };
    // Other options may stand before the script, some with a word of their own (`-o pipefail`, also as `-ceo pipefail`);
    // what follows the script are its arguments.
    let (mut script, mut theirs) = (option, 0);
    for (at, word) in words.iter().enumerate().skip(option) {
        script = at;
        match word.starts_with(['-', '+']) {
            true if short(word) => theirs += word.matches(['o', 'O']).count(),
            true => {}
            false if theirs == 0 => break,
            false => theirs -= 1,
        }
    }
    (option..=script).any(has_macros)
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_parted_at_blanks_and_kept_together_by_quotes() {
        assert_eq!(words(" /bin/a  -x  "), ["/bin/a", "-x"]);
        assert_eq!(words(r#"'/my prog' "a \" b" c\ d '' e"f"g"#), ["/my prog", "a \" b", "c d", "", "efg"]);
        assert!(words("  ").is_empty());
    }

    #[test]
    fn macros_stand_in_arguments_and_never_choose_the_program() {
        let command = Command::parse(r#"/bin/deliver --to="$to" '$from' plain"#).unwrap();
        assert_eq!((command.program.as_str(), command.name()), ("/bin/deliver", "deliver"));
        assert_eq!(command.to_string(), "/bin/deliver --to=$to $from plain");
        assert_eq!(command.arguments.len(), 3);
        for (text, error) in [
            ("  ", CommandError::Empty),
            ("'' x", CommandError::Empty),
            ("/bin/x \"$to", CommandError::OpenQuote),
            ("/opt/$user/run", CommandError::MacroInProgram),
            ("/bin/x a\0b", CommandError::Nul),
            ("/bin/sh -c 'store $to'", CommandError::MacroInScript),
            ("/usr/bin/env -i bash -xec -e \"store '$user'\" x", CommandError::MacroInScript),
            ("busybox sh -c$to", CommandError::MacroInScript),
            ("/bin/sh -o pipefail -c 'store $to'", CommandError::MacroInScript),
            ("/bin/bash -c -o pipefail 'cat > /tmp/x-$user'", CommandError::MacroInScript),
            ("/bin/bash -ceuo pipefail 'store $user'", CommandError::MacroInScript),
            ("/usr/bin/env -S \"sh -c 'store $user'\"", CommandError::MacroInScript),
            ("/usr/bin/env -iS sh $user", CommandError::MacroInScript),
            ("fish --command='store $user'", CommandError::MacroInScript),
            ("/usr/bin/perl -ne 'print \"$user\"'", CommandError::MacroInScript),
            ("python3 -c 'x(\"$to\")'", CommandError::MacroInScript),
            ("su box -c 'store $to'", CommandError::MacroInScript),
            ("ssh host store $to", CommandError::MacroInScript),
        ] {
            assert_eq!(Command::parse(text), Err(error), "{text}");
        }
        for text in [
            "/bin/sh -c 'store \"$1\"' store $to",
            "/bin/bash -eo pipefail -c 'store \"$1\"' store $to",
            "/bin/sh /opt/script $to",
            "/bin/cat -c $to",
            "/usr/bin/perl /opt/store.pl $to",
        ] {
            assert!(Command::parse(text).is_ok(), "{text}");
        }
    }
}
