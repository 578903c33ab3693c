//! The page on self-hosted models, followed to the letter: its manifests and its commands, in a shell, against a fresh gateway.
//!
//! The test runs itself again in a mount and network namespace of its own, where `/etc/hosts` has the page's two host names. Two things are
//! replaced: `pak_...` by a real key, and the authorities that clients trust, by the one that has signed the gateway's certificate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod document;
mod steps;

use std::process::Command;

/// The host names of the page: vLLM and the gateway.
const HOSTS: &str = "127.0.0.1 localhost vllm.vllm-system.svc.cluster.local api.pairun.dev\n";

#[test]
fn the_page_works_as_printed() {
    let mut command = Command::new("unshare");
    if std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) != 0) {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--net"]).arg(std::env::current_exe().unwrap());
    let status = command.args(["--ignored", "--exact", "inside", "--nocapture"]).status().expect("unshare, of util-linux");
    assert!(status.success(), "see above");
}

/// Follows the page. Only [`the_page_works_as_printed`] starts it, in namespaces of its own.
#[test]
#[ignore = "run in namespaces of its own by the_page_works_as_printed"]
fn inside() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, HOSTS).unwrap();
    let run =
        |program: &str, arguments: &[&str]| assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program}");
    run("ip", &["link", "set", "lo", "up"]);
    run("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(steps::follow(dir.path()));
}
