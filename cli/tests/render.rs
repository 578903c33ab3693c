//! The shipped configurations of Envoy are what `pai render` makes of the shipped manifests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `pai` in a directory with the shipped manifests, beside nothing else.
fn pai(directory: &Path, arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::create_dir_all(directory.join("envoy")).unwrap();
    for manifests in ["envoy/pai.yaml", "envoy/fallback-pai.yaml"] {
        fs::copy(root.join(manifests), directory.join(manifests)).unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_pai")).args(arguments).current_dir(directory).output().unwrap()
}

/// To render them again, run the commands at the root of the repository.
#[test]
fn the_shipped_files_are_what_their_commands_write() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (manifests, file) in [("envoy/pai.yaml", "envoy/envoy.yaml"), ("envoy/fallback-pai.yaml", "envoy/fallback.yaml")] {
        let text = fs::read_to_string(root.join(manifests)).unwrap();
        let command = text.lines().find_map(|line| line.strip_prefix("#     pai ")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let output = pai(directory.path(), &command.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let written = fs::read_to_string(directory.path().join(file)).unwrap();
        assert!(written == fs::read_to_string(root.join(file)).unwrap(), "{file} is not what `pai {command}` writes: run it");
    }
}

#[test]
fn an_older_envoy_gets_what_it_knows() {
    let directory = tempfile::tempdir().unwrap();
    let output = pai(directory.path(), &["render", "envoy", "-f", "envoy/fallback-pai.yaml", "--envoy-version", "1.37"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("refresh_cluster_on_retry:") && text.contains("# Envoy 1.37 has no refresh_cluster_on_retry"), "{text}");
    assert!(text.contains("It needs Envoy 1.36 or newer"), "{text}");
    let output = pai(directory.path(), &["render", "envoy", "-f", "envoy/pai.yaml", "--envoy-version", "1.35"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_directory_gets_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let output = pai(directory.path(), &["render", "envoy", "-f", "envoy/pai.yaml", "-o", "."]);
    assert!(output.status.success(), "{output:?}");
    assert!(directory.path().join("envoy.yaml").is_file());
}

#[test]
fn without_files_the_manifests_of_the_gateway_are_rendered() {
    let directory = tempfile::tempdir().unwrap();
    let applied = pai(directory.path(), &["--dir", "gateway", "apply", "-f", "envoy/pai.yaml"]);
    assert!(applied.status.success(), "{applied:?}");
    let rendered = pai(directory.path(), &["--dir", "gateway", "render", "envoy"]);
    let expected = pai(directory.path(), &["render", "envoy", "-f", "envoy/pai.yaml"]);
    assert!(rendered.status.success() && rendered.stdout == expected.stdout, "{rendered:?}");
}
