//! `docs/cli.md`, which is made from the help texts of the commands.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use super::Cli;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
const WIDTH: usize = 110;
const HEAD: &str = "\
# Commands

What `pai COMMAND --help` prints, on one page. The page is made from the help texts: `UPDATE=1 cargo test -p pai reference` writes it.

Data is written to stdout, everything else to stderr. Colours appear on a terminal only, and not with `NO_COLOR`.

| exit code | |
|---|---|
| 0 | done |
| 1 | refused: by `pai`, by the gateway, or because something is wrong with the input |
| 2 | the command line is not valid |
| 3 | no gateway answers |
";

/// Appends the help of a command and of its subcommands.
fn append(page: &mut String, path: &str, command: &mut Command) {
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## `{path}`\n\n```\n{}\n```\n", lines.join("\n")); // writing to a String cannot fail
    for subcommand in command.get_subcommands_mut().filter(|command| command.get_name() != "help" && !command.is_hide_set()) {
        let path = format!("{path} {}", subcommand.get_name());
        append(page, &path, subcommand);
    }
}

/// Sets what depends on the terminal and the environment.
fn fixed(command: Command) -> Command {
    command.term_width(WIDTH).mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(fixed)
}

#[test]
fn the_reference_is_what_help_prints() {
    let mut command = fixed(Cli::command());
    command.build();
    let mut page = HEAD.to_owned();
    append(&mut page, "pai", &mut command);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &page).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).position(|(written, page)| written != page);
    let line = differs.map_or_else(|| written.lines().count().min(page.lines().count()) + 1, |line| line + 1);
    assert!(written == page, "docs/cli.md differs from the help texts from line {line}: UPDATE=1 cargo test -p pai reference");
}
