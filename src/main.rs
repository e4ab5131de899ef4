//! The program: arguments to [`carom::cli`], exit code back.

fn main() -> std::process::ExitCode {
    carom::cli::main()
}
