//! `eval $(pai gateway env)` as it is on the page, in each shell that is installed.

use insta::assert_snapshot;

use crate::support::{Server, User, is_installed, models, run};

const PRINT: &str = r#"printf '%s\n' "$OPENAI_BASE_URL" "$OPENAI_API_KEY" "$ANTHROPIC_BASE_URL" "$ANTHROPIC_AUTH_TOKEN""#;

#[test]
fn shells_evaluate_the_output_without_quotes() {
    let (user, server) = (User::new(), Server::start(models()));
    user.log_in(&server, "pak_abc-DEF_0");
    for (shell, command) in [
        ("sh", "eval $(pai gateway env)"),
        ("bash", "eval $(pai gateway env)"),
        ("bash", "eval \"$(pai gateway env --shell bash)\""),
        ("zsh", "eval $(pai gateway env)"),
        ("zsh", "eval $(pai gateway env --shell zsh)"),
        ("fish", "pai gateway env --shell fish | source"),
    ] {
        if !is_installed(shell) {
            continue;
        }
        let run = run(user.command(shell).args(["-c", &format!("{command}; {PRINT}")]), "");
        let url = server.url();
        assert_eq!(run.stdout, format!("{url}/v1\npak_abc-DEF_0\n{url}\npak_abc-DEF_0\n"), "{shell}: {command}: {run:?}");
        assert_eq!(run.stderr, "", "{shell}: {command}");
    }
}

#[test]
fn nothing_is_printed_without_a_gateway() {
    let user = User::new();
    let run = user.pai(&["gateway", "env"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""));
    assert_snapshot!(run.stderr.replace(user.path("").to_str().unwrap(), "~/"), @r"
    error: not logged in, and no gateway runs in ~/.local/share/pai/default
      Log in with: pai login URL --access-key pak_…
      Or start a gateway on this machine with: pai gateway run
    ");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let (user, server) = (User::new(), Server::start(models()));
    user.log_in(&server, "pak_abc");
    let run = run(user.command("bash").args(["-c", "set -o pipefail; pai gateway env | true"]), "");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}
