//! `pai login`, `pai logout`, `pai gateway list` and `pai gateway use`.

use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;

use crate::support::{self, Server, User, models, response};

#[test]
fn a_key_is_checked_and_stored() {
    let (user, server) = (User::new(), Server::start(models()));
    let run = user.pai(&["login", &server.url(), "--access-key", "pak_abc"]);
    assert_snapshot!(run.shown(&server), @r"
    exit 0
    --
    Logged in to http://gateway.test as `gateway.test`; 2 models are available: pai models
    To use it in this shell: eval $(pai gateway env)
    ");
    let [request] = server.requests().try_into().unwrap();
    assert!(
        request.starts_with("GET /v1/models HTTP/1.1\r\n") && request.contains("authorization: Bearer pak_abc\r\n"),
        "{request}"
    );
    let file = user.path("config/pai/gateways.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(file).unwrap().contains("pak_abc"));
}

#[test]
fn the_key_is_read_from_a_pipe() {
    let (user, server) = (User::new(), Server::start(models()));
    let run = user.pipe(&["login", &format!("{}/v1/", server.url())], "pak_abc\nanother line\n");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(server.requests().concat().contains("Bearer pak_abc\r\n"));
}

#[test]
fn refused_keys_are_not_stored() {
    let user = User::new();
    let body =
        r#"{"error": {"message": "This access key has expired.", "type": "invalid_request_error", "code": "invalid_api_key"}}"#;
    let server = Server::start(response("401 Unauthorized", body));
    assert_snapshot!(user.pai(&["login", &server.url(), "--access-key", "pak_old"]).shown(&server), @r"
    exit 1
    --
    error: http://gateway.test rejects the access key: This access key has expired.
      Log in with a valid key: pai login http://gateway.test --access-key pak_…
    ");
    assert!(!user.path("config/pai/gateways.json").exists());
}

#[test]
fn keys_that_are_none_are_refused_and_not_repeated() {
    let (user, server) = (User::new(), Server::start(models()));
    for (key, expected) in
        [("", "the access key is empty"), ("sk-secret", "access keys begin with `pak_`"), ("pak_secret;id", "a character")]
    {
        let run = user.pai(&["login", &server.url(), "--access-key", key]);
        assert!(run.code == Some(2) && run.stderr.contains(expected) && !run.stderr.contains("secret"), "{run:?}");
    }
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn servers_that_are_no_gateway_are_refused() {
    let user = User::new();
    for (answer, expected) in [
        (response("200 OK", "<html>hello"), "answers, but not with a list of models\n"),
        (response("404 Not Found", "<html>\nnothing"), "is not a gateway: HTTP 404 Not Found <html>\n"),
        (response("502 Bad Gateway", ""), "answers with HTTP 502 Bad Gateway\n"),
        (response("301 Moved\r\nlocation: https://example.com/v1/models", ""), "redirects to https://example.com/v1/models\n"),
    ] {
        let run = user.pai(&["login", &Server::start(answer).url(), "--access-key", "pak_a"]);
        assert!(run.code == Some(1) && run.stderr.contains(expected), "{expected}: {run:?}");
    }
}

#[test]
fn without_a_gateway_the_exit_code_is_3() {
    let (user, server) = (User::new(), Server::stopped());
    assert_snapshot!(user.pai(&["login", &server.url(), "--access-key", "pak_abc"]).shown(&server), @r"
    exit 3
    --
    error: the gateway http://gateway.test cannot be reached: nothing listens at gateway.test (connection refused)
      Check the URL, and that the gateway runs; `pai gateway run` starts one on this machine
    ");
}

#[test]
fn http_to_another_machine_is_warned_about() {
    let run = User::new().pai(&["login", "http://nowhere.invalid", "--access-key", "pak_abc"]);
    assert_snapshot!(run.stderr, @r"
    warning: http://nowhere.invalid does not encrypt: others in the network can read the access key. Use https
    error: the gateway http://nowhere.invalid cannot be reached: there is no host called `nowhere.invalid`
      Check the URL, and that this machine is in the right network or VPN
    ");
    assert_eq!(run.code, Some(3));
}

#[test]
fn urls_that_are_none_are_usage_errors() {
    let run = User::new().pai(&["login", "api.example.com", "--access-key", "pak_abc"]);
    assert_snapshot!(run.stderr, @r"
    error: invalid value 'api.example.com' for '<URL>': the scheme is missing: write `https://api.example.com`

    For more information, try '--help'.
    ");
    assert_eq!(run.code, Some(2));
}

#[test]
fn certificates_are_verified() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (user, server) = (User::new(), Server::start_tls(models(), &certificate));
    let file = user.path("ca.pem");
    std::fs::write(&file, certificate.cert.pem()).unwrap();
    let login = |more: &[&str]| user.pai(&[&["login", &server.https(), "--access-key", "pak_abc"], more].concat());
    let run = login(&[]);
    assert!(run.code == Some(3) && run.stderr.contains("not from an authority that this machine trusts\n  Name the"), "{run:?}");
    let run = login(&["--ca-cert", file.to_str().unwrap()]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(std::fs::read_to_string(user.path("config/pai/gateways.json")).unwrap().contains(file.to_str().unwrap()));
    let run = user.pai(&[
        "login",
        &server.https().replace("localhost", "127.0.0.1"),
        "--access-key",
        "pak_abc",
        "--ca-cert",
        file.to_str().unwrap(),
    ]);
    assert!(run.stderr.contains("its certificate is for another host name\n"), "{run:?}");
    let mut command = user.command("pai");
    command.args(["login", &server.https(), "--access-key", "pak_abc"]).env("SSL_CERT_FILE", &file);
    assert_eq!(support::run(&mut command, "").code, Some(0));
}

#[test]
fn tls_to_a_server_without_it_is_explained() {
    let (user, server) = (User::new(), Server::start("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let run = user.pai(&["login", &server.https(), "--access-key", "pak_abc"]);
    assert!(run.code == Some(3) && run.stderr.contains("does not use TLS\n  Try http://localhost:"), "{run:?}");
}

#[test]
fn one_login_is_current() {
    let (user, first, second) = (User::new(), Server::start(models()), Server::start(models()));
    assert_snapshot!(user.pai(&["gateway", "list"]).shown(&first), @"
    exit 0
    --
    Not logged in to any gateway. Log in with: pai login URL --access-key pak_…
    ");
    user.log_in(&first, "pak_first");
    assert_eq!(user.pai(&["login", &second.url(), "--access-key", "pak_second", "--name", "other"]).code, Some(0));
    let list =
        || user.pai(&["gateway", "list"]).stdout.replace(&first.url(), "http://first").replace(&second.url(), "http://second");
    let name = first.url().replace("http://", "");
    assert_eq!(
        list().lines().filter(|line| line.starts_with('*')).collect::<Vec<_>>(),
        ["*         other             http://second"]
    );
    assert_eq!(user.pai(&["gateway", "use", &name]).code, Some(0));
    assert!(list().lines().any(|line| line.starts_with('*') && line.ends_with("http://first")));
    assert!(user.pai(&["gateway", "env"]).stdout.contains("pak_first"));
    assert_eq!(user.pai(&["gateway", "list", "-o", "name"]).stdout, format!("{name}\nother\n"));
    assert!(!user.pai(&["gateway", "list", "-o", "json"]).stdout.contains("pak_"), "keys are not shown");

    assert_snapshot!(user.pai(&["gateway", "use", "unknown"]).shown(&first), @r"
    exit 1
    --
    error: there is no login called `unknown`
      The logins are `gateway.test`, `other`; `pai login` adds one
    ");
    assert_snapshot!(user.pai(&["logout"]).shown(&first), @r"
    exit 0
    --
    Logged out of `gateway.test`
    To use another login: pai gateway use NAME (`pai gateway list` lists them)
    ");
    assert_eq!(user.pai(&["logout", "other"]).code, Some(0));
    assert_eq!(user.pai(&["logout"]).stderr, "Not logged in to any gateway\n");
    assert!(!std::fs::read_to_string(user.path("config/pai/gateways.json")).unwrap().contains("pak_"));
}
