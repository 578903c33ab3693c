//! What a terminal shows: colours, and not with `NO_COLOR`.

use crate::support::{User, is_installed, run};

/// Runs `pai` in a terminal and returns what it shows.
fn shown(arguments: &str, no_colour: Option<&str>) -> String {
    let mut command = User::new().command("script");
    command.args(["--quiet", "--command", &format!("pai {arguments}"), "/dev/null"]).env("TERM", "xterm");
    if let Some(value) = no_colour {
        command.env("NO_COLOR", value);
    }
    run(&mut command, "").stdout
}

#[test]
fn colours_are_for_terminals_without_no_color() {
    if !is_installed("script") {
        return;
    }
    for arguments in ["gateway use nowhere", "gateway unknown"] {
        assert!(shown(arguments, None).contains("\u{1b}[1"), "{arguments}");
        assert!(!shown(arguments, Some("1")).contains('\u{1b}'), "{arguments}");
    }
    assert!(!User::new().pai(&["gateway", "use", "nowhere"]).stderr.contains('\u{1b}'), "a pipe has no colours");
}
