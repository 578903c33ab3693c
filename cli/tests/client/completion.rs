//! Completion of `pai gateway <TAB>`, by the shells themselves.

use crate::support::{User, is_installed, run};

/// Starts an interactive zsh, presses the tabulator, and prints what it shows.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1= PS2= RPS1=; stty -echo; autoload -Uz compinit; compinit -u -D; source <(pai completion zsh); print read''y"
zpty -r shell answer '*ready*'
zpty -w -n shell $'pai gateway \t'
zpty -r shell answer '*list *use *'
print -r -- $answer
zpty -d shell
"#;
const BASH: &str = r#"
source <(pai completion bash)
COMP_WORDS=(pai gateway "") COMP_CWORD=2 COMP_LINE="pai gateway " COMP_POINT=12
handler=$(complete -p pai | sed 's/.*-F \([^ ]*\).*/\1/')
"$handler" pai "" gateway
printf '%s\n' "${COMPREPLY[@]}"
"#;
const FISH: &str = "pai completion fish | source; complete -C 'pai gateway '";

#[test]
fn shells_complete_subcommands() {
    let user = User::new();
    for (shell, script) in [("bash", BASH), ("zsh", ZSH), ("fish", FISH)] {
        if !is_installed(shell) {
            continue;
        }
        let run = run(user.command("timeout").args(["20", shell, "-c", script]).env("TERM", "dumb"), "");
        let words: Vec<&str> = run.stdout.split_whitespace().collect();
        for expected in ["env", "list", "use"] {
            assert!(words.contains(&expected), "{shell} does not complete {expected}: {run:?}");
        }
        assert_eq!(run.code, Some(0), "{shell}: {run:?}");
    }
}

#[test]
fn scripts_are_for_known_shells() {
    let run = User::new().pai(&["completion", "csh"]);
    assert!(run.code == Some(2) && run.stderr.contains("possible values: bash, elvish, fish, powershell, zsh"), "{run:?}");
}
