//! What a gateway keeps on disk: nothing is half done, whatever ends a command.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pai::directory::GatewayDirectory;
use pai::manifest::{Kind, Manifest};
use tempfile::TempDir;

/// How often a command is killed.
const KILLS: u32 = 200;

fn pai(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pai"));
    command.env_clear().env("PAI_DIR", dir.path().join("gateway")).current_dir(dir.path());
    command
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Writes a file with `count` agents and providers whose cap is `cap`.
fn write_manifests(path: &Path, count: u32, cap: u32) {
    let mut text = String::new();
    for index in 0..count {
        text += &format!(
            "apiVersion: pai.io/v1\nkind: ModelProvider\nmetadata: {{ name: p{index} }}\nspec:\n  provider: vllm\n  endpoint: http://127.0.0.1:1/v1\n  \
             maxTokensPerDay: {cap}\n---\n"
        );
    }
    fs::write(path, text).unwrap();
}

/// Returns the caps in force, without duplicates.
fn caps(dir: &TempDir) -> Vec<u64> {
    let manifests = GatewayDirectory::locate(Some(&dir.path().join("gateway"))).unwrap().manifests().unwrap();
    let cap = |provider: &Manifest| provider.spec()["maxTokensPerDay"].as_u64().unwrap();
    let mut caps: Vec<u64> = manifests.of_kind(Kind::ModelProvider).map(cap).collect();
    assert_eq!(caps.len(), 20);
    caps.dedup();
    caps
}

#[test]
fn a_killed_apply_leaves_the_old_or_the_new_configuration() {
    let dir = TempDir::new().unwrap();
    // The delay before a kill, which follows the moment of the switch: machines and loads differ.
    let mut delay = Duration::ZERO;
    let (mut old, mut new) = (0, 0);
    for round in 0..=KILLS {
        let file = dir.path().join("manifests.yaml");
        write_manifests(&file, 20, round + 1);
        let started = Instant::now();
        let mut child =
            pai(&dir).args(["apply", "-f", "manifests.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if round == 0 {
            assert!(child.wait().unwrap().success());
            delay = started.elapsed();
            continue;
        }
        // Each fourth kill comes earlier, at any moment.
        let is_early = round % 4 == 0;
        sleep(if is_early { delay * (round % 50) / 50 } else { delay });
        let _ = child.kill();
        let _ = child.wait();
        let caps = caps(&dir);
        if caps == [u64::from(round) + 1] {
            new += 1;
            delay = delay * 4 / 5;
        } else {
            assert_eq!(caps.len(), 1, "half of a configuration: {caps:?}");
            old += 1;
            delay = if is_early { delay } else { delay * 21 / 20 };
        }
    }
    assert!(old >= 20 && new >= 5, "the kills hit both sides: {old} old, {new} new");
    let output = run(pai(&dir).args(["apply", "-f", "manifests.yaml"]));
    assert!(output.status.success(), "a later command succeeds: {}", stderr(&output));
    let versions = fs::read_dir(dir.path().join("gateway/versions")).unwrap().count();
    assert_eq!(versions, 1, "what killed commands have left was removed");
}

#[test]
fn a_full_disk_changes_nothing() {
    let dir = TempDir::new().unwrap();
    write_manifests(&dir.path().join("manifests.yaml"), 20, 1);
    assert!(run(pai(&dir).args(["apply", "-f", "manifests.yaml"])).status.success());
    write_manifests(&dir.path().join("manifests.yaml"), 20, 2);
    for blocks in [0, 1, 4, 16] {
        // A write beyond the limit fails, as on a full disk, where the signal is ignored.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" apply -f manifests.yaml");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pai")]).env_clear().env("PAI_DIR", dir.path().join("gateway"));
        let output = run(command.current_dir(dir.path()));
        if output.status.success() {
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("cannot be"), "{}", stderr(&output));
        assert_eq!(caps(&dir), [1], "{blocks}");
    }
    assert!(run(pai(&dir).args(["apply", "-f", "manifests.yaml"])).status.success());
    assert_eq!(caps(&dir), [2]);
}

#[test]
fn a_second_command_names_the_process_that_holds_the_lock() {
    let dir = TempDir::new().unwrap();
    write_manifests(&dir.path().join("manifests.yaml"), 20, 1);
    assert!(run(pai(&dir).args(["apply", "-f", "manifests.yaml"])).status.success());
    let lock = fs::OpenOptions::new().read(true).write(true).open(dir.path().join("gateway/lock")).unwrap();
    lock.lock().unwrap();
    fs::write(dir.path().join("gateway/lock"), "4711").unwrap();
    let output = run(pai(&dir).args(["apply", "-f", "manifests.yaml"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("process 4711 is changing"), "{}", stderr(&output));
    drop(lock);
    assert!(run(pai(&dir).args(["apply", "-f", "manifests.yaml"])).status.success());
}

#[test]
fn only_this_user_can_read_the_directory() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = TempDir::new().unwrap();
    write_manifests(&dir.path().join("manifests.yaml"), 20, 1);
    assert!(run(pai(&dir).args(["add", "secret", "s", "--from-literal", "k=v"])).status.success());
    assert!(run(pai(&dir).args(["apply", "-f", "manifests.yaml"])).status.success());
    let root = dir.path().join("gateway");
    let mut pending = vec![root];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{}", path.display());
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_file() {
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
    }
}

#[test]
fn a_bad_manifest_changes_nothing() {
    let dir = TempDir::new().unwrap();
    write_manifests(&dir.path().join("manifests.yaml"), 20, 1);
    assert!(run(pai(&dir).args(["apply", "-f", "manifests.yaml"])).status.success());
    let bad = "apiVersion: pai.io/v1\nkind: Agent\nmetadata: { name: a }\nspec:\n  identities: [x]\n  models: [nowhere/m]\n";
    write_manifests(&dir.path().join("manifests.yaml"), 20, 2);
    fs::write(dir.path().join("agents.yaml"), bad).unwrap();
    let output = run(pai(&dir).args(["apply", "-f", "manifests.yaml", "-f", "agents.yaml"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("agents.yaml, document 1, line 6: Agent a: spec.models[0]"), "{}", stderr(&output));
    assert_eq!(caps(&dir), [1]);
}
