//! What the README and the shipped configuration say, run as written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use e2e::harness::{envoy_binary, installed_clients, until};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The blocks of code in the README that are in `language`.
fn blocks(language: &str) -> Vec<String> {
    let readme = read("README.md");
    let blocks = readme.split("\n```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n"))).map(str::to_owned).collect()
}

fn shell(command: &str) -> Output {
    Command::new("bash").arg("-c").arg(command).current_dir(root()).output().unwrap()
}

/// `scripts/run` on a port of its own, until dropped.
struct Running {
    script: Child,
    port: u16,
    said: String,
}

impl Running {
    fn start(options: &[&str]) -> Self {
        // Nobody else is given the port while it stands in no configuration; the script says so if it is taken after all.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port_option = port.to_string();
        let mut command = Command::new("scripts/run");
        command.args(["--port", &port_option]).args(options).current_dir(root()).stdout(Stdio::piped());
        let mut running = Self { script: command.spawn().unwrap(), port, said: String::new() };
        for line in BufReader::new(running.script.stdout.take().unwrap()).lines() {
            running.said.push_str(&line.unwrap());
            running.said.push('\n');
            if running.said.contains("OPENAI_BASE_URL") {
                return running;
            }
        }
        panic!("scripts/run ended: {}", running.said);
    }

    /// A command of the README, on this port.
    fn here(&self, command: &str) -> String {
        command.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", self.port))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.script.id().to_string()]).status();
        let _ = self.script.wait();
    }
}

#[test]
fn the_readmes_configuration_is_accepted() {
    let [configuration] = &blocks("yaml")[..] else { panic!("one configuration") };
    pai_filter::config::load(configuration.as_bytes(), &|_| None).unwrap();
    assert!(configuration.lines().count() <= 20);
}

#[test]
fn the_shipped_manifests_stand_in_envoys_configuration() {
    let manifests = read("envoy/pai.yaml");
    pai_filter::config::load(manifests.as_bytes(), &|_| None).unwrap();
    let envoy = read("envoy/envoy.yaml");
    let (_, held) = envoy.split_once("value: | # envoy/pai.yaml, to the end of this text\n").unwrap();
    let indent = held.len() - held.trim_start_matches(' ').len();
    let held = held.lines().take_while(|line| line.starts_with(&" ".repeat(indent)) || line.is_empty());
    let held: String = held.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
    let meant = |text: &str| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(meant(&held).trim(), meant(&manifests).trim());
}

#[test]
fn the_shipped_configuration_of_envoy_is_valid() {
    let output =
        Command::new(envoy_binary()).args(["--mode", "validate", "-c", "envoy/envoy.yaml"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_readmes_commands_work_as_written() {
    let running = Running::start(&[]);
    let mut asked = 0;
    let printed = running.said.lines().map(str::trim).filter(|line| line.starts_with("curl ")).map(str::to_owned);
    for command in blocks("sh").iter().filter(|block| block.starts_with("curl ")).map(|block| running.here(block)).chain(printed) {
        let output = shell(&command.replacen("curl ", "curl --silent --show-error --fail ", 1));
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        let expected = if command.contains("model-providers") {
            "\"usedToday\":"
        } else if command.contains("\"stream\": true") {
            "data: [DONE]"
        } else {
            "\"usage\":{"
        };
        assert!(answer.contains(expected), "{command}\n{answer}");
        asked += 1;
    }
    assert_eq!(asked, 6, "three in the README, three printed");
    let python = installed_clients().join("python/bin/python");
    let [snippet] = &blocks("python")[..] else { panic!("one snippet") };
    let output = Command::new(python).arg("-c").arg(running.here(snippet)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(" tokens"), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let port = running.port;
    drop(running);
    let free = || async move { std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(()) };
    until("the port is free", free).await;
}

#[test]
fn help_teaches_and_mistakes_are_named() {
    let help = shell("scripts/run --help");
    let said = String::from_utf8_lossy(&help.stdout);
    for option in ["--vllm URL", "--config FILE", "--port N"] {
        assert!(help.status.success() && said.contains(option), "{said}");
    }
    for (command, expected) in [
        ("scripts/run --port 0", "not a port"),
        ("scripts/run --config /nowhere", "cannot read /nowhere"),
        ("scripts/run --nonsense", "Usage: scripts/run"),
    ] {
        let output = shell(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{command}: {said}");
    }
}
